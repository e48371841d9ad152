//! Fields that sources tell of a task and its ENIs, with or without an interface on this host.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Attribute, Fact, Identity, Mac, Source,
    report::FieldReport,
    view::{Detail, TaskView},
};

/// An ENI that sources tell of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniReport {
    /// Its MAC address.
    pub mac: String,
    /// Its fields, by name.
    pub fields: BTreeMap<String, FieldReport>,
}

/// An address that a source tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// The address.
    pub address: String,
    /// The source.
    pub source: String,
}

/// Fields of the task, each from its best source.
pub(super) fn fields(told: &[(Source, &TaskView)]) -> BTreeMap<String, FieldReport> {
    merged(told.iter().flat_map(|(source, task)| facts(*source, &task.details)))
}

/// ENIs of the task, each with its fields from their best sources.
pub(super) fn enis(told: &[(Source, &TaskView)]) -> Vec<EniReport> {
    let all = || told.iter().flat_map(|(source, task)| task.enis.iter().map(move |eni| (*source, eni)));
    let macs: BTreeSet<Mac> = all().map(|(_, eni)| eni.mac).collect();
    let report = |mac: Mac| {
        let of_it = all().filter(|(_, eni)| eni.mac == mac);
        EniReport {
            mac: mac.to_string(),
            fields: merged(of_it.flat_map(|(source, eni)| facts(source, &eni.details))),
        }
    };
    macs.into_iter().map(report).collect()
}

/// Addresses of the task's ENI, from sources that tell no more of it.
pub(super) fn addresses(told: &[(Source, &TaskView)]) -> Vec<AddressReport> {
    let all = told.iter().flat_map(|(source, task)| task.addresses.iter().map(move |it| (source, it)));
    all.map(|(source, address)| AddressReport {
        address: address.to_string(),
        source: source.as_str().into(),
    })
    .collect()
}

fn facts(source: Source, details: &[Detail]) -> impl Iterator<Item = Fact> {
    details.iter().map(move |(attribute, value)| Fact { attribute: *attribute, value: value.clone(), source })
}

fn merged(facts: impl Iterator<Item = Fact>) -> BTreeMap<String, FieldReport> {
    Identity::default().merge(facts).0.report()
}

impl Identity {
    /// All that is known, by name.
    pub(super) fn report(&self) -> BTreeMap<String, FieldReport> {
        let fields = self.facts().map(|fact| {
            let field = FieldReport { value: fact.value.into(), source: fact.source.as_str().into() };
            (fact.attribute.as_str().to_owned(), field)
        });
        fields.collect()
    }
}

impl EniReport {
    /// The value of a field; empty where no source tells.
    pub(super) fn get(&self, attribute: Attribute) -> &str {
        self.fields.get(attribute.as_str()).map_or("", |field| &field.value)
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> String {
        let addresses = [Attribute::EniIpv4, Attribute::EniIpv6].map(|attribute| self.get(attribute));
        addresses.into_iter().filter(|address| !address.is_empty()).collect::<Vec<_>>().join(",")
    }
}

/// Lines such as `by file: interface-id = eni-0a, subnet-id = subnet-0a`.
pub(super) fn lines(fields: &BTreeMap<String, FieldReport>) -> Vec<String> {
    let mut by_source = BTreeMap::<&str, Vec<String>>::new();
    for (name, field) in fields {
        by_source.entry(&field.source).or_default().push(format!("{name} = {}", field.value));
    }
    by_source.into_iter().map(|(source, fields)| format!("by {source}: {}", fields.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;
    use crate::tasks::{
        hostile::hostile,
        report::{ConflictReport, InterfaceReport, Report, SourceReport, TaskReport},
    };

    fn known(text: &mut impl FnMut() -> String) -> BTreeMap<String, FieldReport> {
        let fields = ["interface-id", "subnet-id", "eni-ipv4"].map(|name| {
            let field = FieldReport { value: text(), source: "file".into() };
            (name.to_owned(), field)
        });
        fields.into()
    }

    fn interface(text: &mut impl FnMut() -> String) -> InterfaceReport {
        InterfaceReport {
            name: text(),
            netns: 1,
            netns_path: text(),
            mac: "02:00:00:00:00:01".into(),
            addresses: vec!["10.0.0.1".into(), "2001:db8::1".into()],
            attach: format!("failed: {}", text()),
            fields: known(text),
            conflicts: vec![ConflictReport {
                field: "ecs-task-id".into(),
                source: "imds".into(),
                value: text(),
            }],
            missing: vec![text()],
        }
    }

    /// A report with a text of this maker wherever a source gives one.
    fn report(text: &mut impl FnMut() -> String) -> Report {
        let mut task = |interfaces, enis| TaskReport {
            id: "0123".into(),
            service: text(),
            mode: text(),
            state: "absent".into(),
            sources: vec!["file".into()],
            containers: vec![text()],
            fields: known(text),
            enis,
            addresses: vec![AddressReport { address: "10.0.0.2".into(), source: "introspection".into() }],
            interfaces,
        };
        let bare = task(Vec::new(), Vec::new());
        let mut with_eni = task(Vec::new(), Vec::new());
        let mut present = task(Vec::new(), Vec::new());
        with_eni.enis = vec![EniReport { mac: "02:00:00:00:00:02".into(), fields: known(text) }];
        present.interfaces = vec![interface(text)];
        let source = SourceReport { name: "imds".into(), up: false, detail: text(), tasks: 1 };
        Report {
            sources: vec![source],
            tasks: vec![bare, with_eni, present],
            interfaces: vec![interface(text)],
            missed: 0,
            left_out: Vec::new(),
        }
    }

    /// Lines, and for each that is a row its columns; the last may hold several words. The sources' table has four.
    fn shape(report: &Report) -> Vec<usize> {
        let text = report.to_string();
        let lines = text.split_terminator(|c: char| c != ' ' && c.is_whitespace());
        let mut columns = 4;
        let count = |line: &str| {
            if line.is_empty() {
                columns = 8;
            }
            if line.starts_with(' ') { 0 } else { line.split_whitespace().take(columns).count() }
        };
        lines.map(count).collect()
    }

    #[test]
    fn lines_and_columns_of_the_table_do_not_depend_on_values() {
        let plain = shape(&report(&mut || "x".into()));
        for seed in 0..300 {
            let mut random = Rng::with_seed(seed);
            // The detail of a source is the only cell that may be empty.
            let mut text = || {
                let text = hostile(&mut random);
                if text.trim().is_empty() { format!("x{text}") } else { text }
            };
            let report = report(&mut text);
            assert_eq!(shape(&report), plain, "seed {seed}:\n{report}");
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(json.lines().count(), 1);
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        }
    }

    #[test]
    fn each_field_of_an_eni_is_of_its_best_source() {
        let view = |id: &str| TaskView {
            enis: vec![super::super::view::EniView {
                mac: "02:00:00:00:00:01".parse().unwrap(),
                details: vec![(Attribute::InterfaceId, id.into()), (Attribute::SubnetId, "subnet-1".into())],
            }],
            ..TaskView::default()
        };
        let (file, agent) = (view("eni-file"), view("eni-agent"));
        let [eni] = &enis(&[(Source::File, &file), (Source::Agent, &agent)])[..] else { panic!() };
        let of = |name: &str| (eni.fields[name].value.as_str(), eni.fields[name].source.as_str());
        assert_eq!(of("interface-id"), ("eni-agent", "agent"));
        assert_eq!(of("subnet-id"), ("subnet-1", "agent"));
        assert_eq!(lines(&eni.fields), ["by agent: interface-id = eni-agent, subnet-id = subnet-1"]);
    }
}
