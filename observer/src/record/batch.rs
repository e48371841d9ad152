use std::{collections::BTreeMap, sync::Arc};

use super::{Content, Lost, Record, Subject};
use crate::flow::{InterfaceNumber, Table, Window};

/// All that is to be recorded of one window.
#[derive(Debug)]
pub struct Batch {
    /// The window.
    pub window: Window,
    /// Its flows.
    pub flows: Table,
    /// Whose they are. Every interface of a flow is in here.
    pub subjects: BTreeMap<InterfaceNumber, Arc<Subject>>,
    /// Interfaces that were observed and saw no packet.
    pub silent: Vec<InterfaceNumber>,
    /// Interfaces with packets that are in no record.
    pub lossy: Vec<(InterfaceNumber, Lost)>,
}

impl Batch {
    /// The records: flows, then NODATA, then SKIPDATA.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let flows = self.flows.flows().map(|flow| (flow.key.interface(), Content::Flow(flow)));
        let silent = self.silent.iter().map(|interface| (*interface, Content::NoData));
        let lossy = self.lossy.iter().map(|(interface, lost)| (*interface, Content::SkipData(*lost)));
        flows.chain(silent).chain(lossy).filter_map(|(interface, content)| {
            let subject = self.subjects.get(&interface)?;
            Some(Record { window: self.window, subject, content })
        })
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.flows.len() + self.silent.len() + self.lossy.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
