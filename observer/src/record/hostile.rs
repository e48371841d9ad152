//! Tests with hostile names and values of interfaces: none may break a line.

use std::{collections::BTreeSet, sync::Arc};

use fastrand::Rng;
use serde_json::{Map, Value as Json};

use super::{
    Batch, Context, Format, JsonLines, Subject, TextLines,
    examples::{ENI, PLAIN, batch, context},
};
use crate::{
    flow::Action,
    linux::netns::Netns,
    tasks::{
        Attribute, Fact, Identity, Interface, InterfaceKey, LinkKind, Mac, Observed, Source,
        hostile::hostile,
    },
};

/// True for a text that counts as absent.
fn is_none(text: &str) -> bool {
    matches!(text, "" | "-")
}

/// The value of each attribute; `None` if absent.
type Values = Vec<Option<String>>;

/// Values of an interface, and of a container with flows on it.
struct Sample {
    name: String,
    mac: Option<Mac>,
    own: Values,
    tenant: Option<Values>,
}

impl Sample {
    fn hostile(random: &mut Rng) -> Self {
        let values = |random: &mut Rng| {
            Attribute::ALL.iter().map(|_| random.bool().then(|| hostile(random))).collect()
        };
        Self {
            name: hostile(random),
            mac: random.bool().then(|| Mac::from([2, 0, 0, 0, 0, 1])),
            own: values(random),
            tenant: random.bool().then(|| values(random)),
        }
    }

    /// The same values, each present one replaced with a harmless one.
    fn plain(&self) -> Self {
        let plain = |text: &str, plain: &str| (!is_none(text)).then(|| plain.to_owned());
        let values = |values: &Values| {
            values.iter().map(|value| plain(value.as_deref().unwrap_or_default(), "x")).collect()
        };
        Self {
            name: plain(&self.name, "eth0").unwrap_or_default(),
            mac: self.mac,
            own: values(&self.own),
            tenant: self.tenant.as_ref().map(values),
        }
    }

    fn subject(&self) -> Subject {
        Subject::new(&Observed {
            key: InterfaceKey { netns: 1, birth: 1, ifindex: 2 },
            interface: Interface {
                netns: Netns { inode: 1, path: "/run/netns/a".into() },
                on_host: self.tenant.is_some(),
                ifindex: 2,
                name: self.name.as_str().into(),
                mac: self.mac,
                kind: LinkKind::Veth,
                ethernet: true,
                up: true,
                queued: true,
                controller: None,
                other: None,
                addresses: Vec::new(),
            },
            appeared: None,
            identity: identity(&self.own),
            tenants: Arc::new(
                self.tenant.iter().map(|it| (CONTAINER.into(), identity(it))).collect(),
            ),
            awaits_identity: false,
            older: false,
        })
    }
}

const CONTAINER: &str = "c1";

/// An identity whose values come from different sources.
fn identity(values: &Values) -> Arc<Identity> {
    let values = Attribute::ALL.iter().zip(values).zip(Source::ALL.iter().cycle());
    let facts = values.filter_map(|((attribute, value), source)| {
        Some(Fact { attribute: *attribute, value: value.as_deref()?.into(), source: *source })
    });
    Arc::new(Identity::default().merge(facts).0)
}

/// A window with hostile values, and the same window with harmless ones.
pub(crate) fn windows(random: &mut Rng) -> (Batch, Batch) {
    let samples = [Sample::hostile(random), Sample::hostile(random)];
    let window = |subjects: [Subject; 2]| {
        let mut window = batch();
        let owned: Vec<_> =
            window.flows.flows().map(|flow| flow.key.with_action(Action::Accept)).collect();
        window.owners =
            Arc::new(owned.into_iter().step_by(2).map(|key| (key, CONTAINER.into())).collect());
        window.subjects.extend([ENI, PLAIN].into_iter().zip(subjects.map(Arc::new)));
        window
    };
    (
        window(samples.each_ref().map(Sample::subject)),
        window(samples.each_ref().map(|it| it.plain().subject())),
    )
}

fn text_of(batch: &Batch, context: &Context) -> String {
    let (mut text, mut templates) = (Vec::new(), TextLines::default());
    for (interface, record) in batch.records(context) {
        templates.write(interface, &record, &mut text);
    }
    String::from_utf8(text).unwrap()
}

fn json_of(batch: &Batch, context: &Context) -> String {
    let (mut text, mut templates) = (Vec::new(), JsonLines::default());
    for (interface, record) in batch.records(context) {
        templates.write(interface, &record, &mut text);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn columns_lines_and_keys_do_not_depend_on_values() {
    let custom = "${ecs-service-name} ${interface-id} ${ecs-cluster-arn} ${az-id}".parse().unwrap();
    let formats = [Format::v2(), Format::ecs(), Format::all(), custom];
    for seed in 0..400 {
        let (hostile, plain) = windows(&mut Rng::with_seed(seed));
        let format = &formats[seed as usize % formats.len()];
        for context in [context(format.clone()), Context::new(format.clone())] {
            let count = plain.records(&context).count();

            let text = text_of(&hostile, &context);
            // All characters that a reader may take for the end of a line.
            let lines: Vec<&str> =
                text.split_terminator(|c: char| c != ' ' && c.is_whitespace()).collect();
            assert_eq!(lines.len(), count, "seed {seed}: lines");
            for line in lines {
                let columns = line.split(' ').collect::<Vec<_>>();
                assert_eq!(
                    columns.len(),
                    format.fields().len(),
                    "seed {seed}: columns of {line:?}"
                );
                assert!(columns.iter().all(|column| !column.is_empty()), "seed {seed}: {line:?}");
                assert!(
                    !line.contains(|c: char| c == '"' || c.is_control()),
                    "seed {seed}: {line:?}"
                );
            }

            let keys = |batch: &Batch| -> Vec<BTreeSet<String>> {
                let text = json_of(batch, &context);
                assert!(text.ends_with('\n'));
                let lines = text
                    .lines()
                    .map(|line| serde_json::from_str::<Map<String, Json>>(line).unwrap());
                lines
                    .map(|line| {
                        assert!(
                            line.values().all(|value| !matches!(value.as_str(), Some("" | "-")))
                        );
                        line.into_iter().map(|(key, _)| key).collect()
                    })
                    .collect()
            };
            assert_eq!(keys(&hostile), keys(&plain), "seed {seed}: keys of JSON lines");
        }
    }
}

#[test]
fn an_interface_without_a_name_has_no_id() {
    for (name, id) in
        [("", None), ("-", None), ("eth 0\"", Some("eth_0_")), ("é\u{2028}", Some("__"))]
    {
        let sample = Sample {
            name: name.into(),
            mac: None,
            own: vec![None; Attribute::ALL.len()],
            tenant: None,
        };
        assert_eq!(Some(&*sample.subject().interface_id).filter(|id| !id.is_empty()), id);
        let sample = Sample { mac: Some(Mac::from([2, 0, 0, 0, 0, 1])), ..sample };
        let with_mac = id
            .map_or_else(|| "02:00:00:00:00:01".to_owned(), |id| format!("{id}@02:00:00:00:00:01"));
        assert_eq!(*sample.subject().interface_id, *with_mac);
    }
}
