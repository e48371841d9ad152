use std::collections::BTreeMap;

use fastrand::Rng;

use super::{
    fields::{lines, of_enis},
    model::{
        AddressReport, ConflictReport, EniReport, FieldReport, InterfaceReport, Report,
        SourceReport, TaskReport,
    },
};
use crate::tasks::{
    Attribute, Source,
    hostile::hostile,
    view::{EniView, TaskView},
};

fn fields(text: &mut impl FnMut() -> String) -> BTreeMap<String, FieldReport> {
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
        fields: fields(text),
        conflicts: vec![ConflictReport {
            field: "ecs-task-id".into(),
            source: "imds".into(),
            value: text(),
        }],
        missing: vec![text()],
    }
}

/// A report with the results of `text` wherever a source gives a text.
fn report(text: &mut impl FnMut() -> String) -> Report {
    let mut task = |interfaces, enis| TaskReport {
        id: "0123".into(),
        service: text(),
        mode: text(),
        state: "absent".into(),
        sources: vec!["file".into()],
        containers: vec![text()],
        fields: fields(text),
        enis,
        addresses: vec![AddressReport {
            address: "10.0.0.2".into(),
            source: "introspection".into(),
        }],
        interfaces,
    };
    let bare = task(Vec::new(), Vec::new());
    let mut with_eni = task(Vec::new(), Vec::new());
    let mut present = task(Vec::new(), Vec::new());
    with_eni.enis = vec![EniReport { mac: "02:00:00:00:00:02".into(), fields: fields(text) }];
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

/// Number of columns of each line; 0 for a note. The last column may hold several words. The first
/// table has four.
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
        enis: vec![EniView {
            mac: "02:00:00:00:00:01".parse().unwrap(),
            details: vec![
                (Attribute::InterfaceId, id.into()),
                (Attribute::SubnetId, "subnet-1".into()),
            ],
        }],
        ..TaskView::default()
    };
    let (file, agent) = (view("eni-file"), view("eni-agent"));
    let [eni] = &of_enis(&[(Source::File, &file), (Source::Agent, &agent)])[..] else { panic!() };
    let of = |name: &str| (eni.fields[name].value.as_str(), eni.fields[name].source.as_str());
    assert_eq!(of("interface-id"), ("eni-agent", "agent"));
    assert_eq!(of("subnet-id"), ("subnet-1", "agent"));
    assert_eq!(lines(&eni.fields), ["by agent: interface-id = eni-agent, subnet-id = subnet-1"]);
}
