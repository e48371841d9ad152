use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    sync::Arc,
};

use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use super::{Content, Context, Mark, Record, Subject, parity::is_unlogged};
use crate::flow::{Action, Claim, FlowKey, InterfaceNumber, Table, Traffic, Window};

/// Containers of flows, by key.
pub type Owners = HashMap<FlowKey, Arc<str>, RandomState>;

/// Identity of a batch, for outputs that continue after the daemon was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchId {
    /// Number of its window in the journal.
    pub sequence: u64,
    /// True for the records that were held until their interfaces were identified.
    pub held: bool,
}

/// Everything to record for one window.
#[derive(Debug)]
pub struct Batch {
    /// The window.
    pub window: Window,
    /// Identity; `None` if the batch is not in the journal.
    pub id: Option<BatchId>,
    /// Flows of the window.
    pub flows: Table,
    /// Subjects of the interfaces. Contains every interface of a flow.
    pub subjects: BTreeMap<InterfaceNumber, Arc<Subject>>,
    /// Containers of flows on interfaces that several containers share, by the keys of accepted
    /// packets. A container unknown to the subject is ignored.
    pub owners: Arc<Owners>,
    /// Claims on the memory of the flows, and of `owners`, which the batches of one window share.
    pub room: (Option<Claim>, Option<Arc<Claim>>),
    /// Observed interfaces without packets.
    pub silent: Vec<InterfaceNumber>,
    /// Interfaces with packets that no record holds, and their traffic.
    pub lossy: Vec<(InterfaceNumber, Traffic)>,
    /// Interfaces that existed while nothing was observed, and when: before the window, or in it.
    pub gaps: Vec<(InterfaceNumber, Window)>,
    /// Signals that all outputs are done with the window.
    pub mark: Option<Mark>,
}

impl Batch {
    /// Creates an empty batch.
    pub fn new(window: Window) -> Self {
        Self {
            window,
            id: None,
            flows: Table::new(),
            subjects: BTreeMap::new(),
            owners: Arc::default(),
            room: (None, None),
            silent: Vec::new(),
            lossy: Vec::new(),
            gaps: Vec::new(),
            mark: None,
        }
    }

    /// Moves the records of these interfaces to a batch of their own.
    #[must_use]
    pub fn split_off(&mut self, numbers: &BTreeSet<InterfaceNumber>) -> Self {
        let (mut rest, mut split) = (Table::new(), Table::new());
        // Flow by flow, because memory may not have room for all of them twice.
        for flow in mem::take(&mut self.flows).into_flows() {
            let table =
                if numbers.contains(&flow.key.interface()) { &mut split } else { &mut rest };
            table.add(&flow);
        }
        self.flows = rest;
        let subjects = self.subjects.iter().filter(|(number, _)| numbers.contains(number));
        Self {
            id: self.id.map(|id| BatchId { held: true, ..id }),
            flows: split,
            // The batch keeps these subjects too. None of its remaining records uses them.
            subjects: subjects.map(|(number, subject)| (*number, subject.clone())).collect(),
            owners: Arc::clone(&self.owners),
            silent: self.silent.extract_if(.., |number| numbers.contains(number)).collect(),
            lossy: self.lossy.extract_if(.., |(number, _)| numbers.contains(number)).collect(),
            gaps: self.gaps.extract_if(.., |(number, _)| numbers.contains(number)).collect(),
            mark: self.mark.clone(),
            ..Self::new(self.window)
        }
    }

    /// True if there is nothing to record.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
            && self.silent.is_empty()
            && self.lossy.is_empty()
            && self.gaps.is_empty()
    }

    /// The records to write, each with a number that all records of one subject share: flows, then
    /// NODATA, then SKIPDATA.
    pub fn records<'a>(
        &'a self,
        context: &'a Context,
    ) -> impl Iterator<Item = (InterfaceNumber, Record<'a>)> {
        self.all(context).filter(|(_, record)| is_written(record))
    }

    /// The records that the user's settings exclude.
    pub fn left_out<'a>(&'a self, context: &'a Context) -> impl Iterator<Item = Record<'a>> {
        self.all(context).filter(|(_, record)| !is_written(record)).map(|(_, record)| record)
    }

    fn all<'a>(
        &'a self,
        context: &'a Context,
    ) -> impl Iterator<Item = (InterfaceNumber, Record<'a>)> {
        let flows =
            self.flows.flows().map(|flow| (flow.key.interface(), self.window, Content::Flow(flow)));
        let silent = self
            .silent(context)
            .into_iter()
            .map(|interface| (interface, self.window, Content::NoData));
        let lossy = self
            .lossy
            .iter()
            .map(|(interface, lost)| (*interface, self.window, Content::SkipData(*lost)));
        // The amount of traffic is unknown.
        let unknown = Content::SkipData(Traffic::NONE);
        let gaps = self.gaps.iter().map(move |(interface, gap)| (*interface, *gap, unknown));
        // Consecutive flows mostly have the same interface.
        let mut last: Option<(InterfaceNumber, &Subject)> = None;
        // Numbers after those of the interfaces.
        let mut numbers = BTreeMap::new();
        let beyond = self.subjects.keys().next_back().map_or(0, |last| last.get());
        flows.chain(silent).chain(lossy).chain(gaps).filter_map(
            move |(interface, window, content)| {
                let subject = match last {
                    Some((known, subject)) if known == interface => subject,
                    _ => self.subjects.get(&interface)?,
                };
                last = Some((interface, subject));
                let record = Record { context, window, subject, content };
                let Some((container, tenant)) = self.tenant(subject, content) else {
                    return Some((interface, record));
                };
                let next = beyond.saturating_add(1).saturating_add(numbers.len() as u16);
                let number =
                    *numbers.entry((interface, container)).or_insert(InterfaceNumber::new(next));
                Some((number, Record { subject: tenant, ..record }))
            },
        )
    }

    /// The container of a flow on a shared interface.
    fn tenant<'a>(
        &'a self,
        subject: &'a Subject,
        content: Content<'_>,
    ) -> Option<(&'a str, &'a Subject)> {
        let Content::Flow(flow) = content else { return None };
        if subject.tenants.is_empty() {
            return None;
        }
        let container = self.owners.get(&flow.key.with_action(Action::Accept))?;
        Some((container, subject.tenants.get(&**container)?))
    }

    /// Interfaces with a NODATA record: no packet, or none that AWS would log.
    fn silent(&self, context: &Context) -> Vec<InterfaceNumber> {
        match (context.no_nodata, context.aws_parity) {
            (true, _) => Vec::new(),
            (false, false) => self.silent.clone(),
            (false, true) => {
                let mut heard: BTreeSet<_> =
                    self.lossy.iter().map(|(interface, _)| *interface).collect();
                for flow in self.flows.flows() {
                    let interface = flow.key.interface();
                    if !heard.contains(&interface)
                        && let Some(subject) = self.subjects.get(&interface)
                        && !is_unlogged(context, subject, &flow.key)
                    {
                        heard.insert(interface);
                    }
                }
                self.subjects
                    .keys()
                    .copied()
                    .filter(|interface| !heard.contains(interface))
                    .collect()
            }
        }
    }
}

fn is_written(record: &Record<'_>) -> bool {
    let context = record.context;
    let is_logged = match record.content {
        Content::Flow(flow) if context.aws_parity => {
            !is_unlogged(context, record.subject, &flow.key)
        }
        _ => true,
    };
    is_logged && context.filter.keeps(record)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Format,
        examples::{PLAIN, batch, context, plain},
    };

    #[test]
    fn a_flow_of_a_tenant_is_the_tenants_and_has_a_number_that_no_other_subject_has() {
        let mut batch = batch();
        let shared = |names: &[&str]| {
            let tenants = names.iter().map(|name| {
                (Box::from(*name), Subject { interface_name: Box::from(*name), ..plain() })
            });
            Subject { tenants: tenants.collect(), ..plain() }
        };
        let subject = Arc::new(shared(&["one", "other"]));
        batch.subjects.insert(PLAIN, subject);
        let keys: Vec<_> = batch
            .flows
            .flows()
            .map(|flow| flow.key)
            .filter(|key| key.interface() == PLAIN)
            .collect();
        let [first, second, third, ..] = keys[..] else { panic!("{keys:?}") };
        for (key, container) in [(first, "one"), (second, "other"), (third, "unknown")] {
            Arc::make_mut(&mut batch.owners)
                .insert(key.with_action(Action::Accept), container.into());
        }
        let context = context(Format::v2());
        let mut numbers = BTreeMap::new();
        for (number, record) in batch.all(&context) {
            let Content::Flow(flow) = record.content else { continue };
            let name = &*record.subject.interface_name;
            match flow.key {
                key if key == first => assert_eq!(name, "one"),
                key if key == second => assert_eq!(name, "other"),
                key if key.interface() == PLAIN => {
                    assert_eq!(name, plain().interface_name.as_ref());
                }
                _ => {}
            }
            let subject = (flow.key.interface(), name.to_owned());
            assert_eq!(*numbers.entry(number).or_insert_with(|| subject.clone()), subject);
        }
        assert_eq!(numbers.len(), 2 + 2);
    }
}
