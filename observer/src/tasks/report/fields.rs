//! Fields of tasks and ENIs, merged over the sources.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{AddressReport, EniReport, FieldReport};
use crate::tasks::{
    Attribute, Fact, Identity, Mac, Source,
    view::{Detail, TaskView},
};

/// Fields of the task, each from its highest-priority source.
pub(super) fn of_task(views: &[(Source, &TaskView)]) -> BTreeMap<String, FieldReport> {
    merged(views.iter().flat_map(|(source, task)| facts(*source, &task.details)))
}

/// ENIs of the task, each field from its highest-priority source.
pub(super) fn of_enis(views: &[(Source, &TaskView)]) -> Vec<EniReport> {
    let all =
        || views.iter().flat_map(|(source, task)| task.enis.iter().map(move |eni| (*source, eni)));
    let macs: BTreeSet<Mac> = all().map(|(_, eni)| eni.mac).collect();
    let report = |mac: Mac| {
        let of_mac = all().filter(|(_, eni)| eni.mac == mac);
        EniReport {
            mac: mac.to_string(),
            fields: merged(of_mac.flat_map(|(source, eni)| facts(source, &eni.details))),
        }
    };
    macs.into_iter().map(report).collect()
}

/// Addresses of the task's ENI, from sources that give nothing else of the ENI.
pub(super) fn addresses(views: &[(Source, &TaskView)]) -> Vec<AddressReport> {
    let all =
        views.iter().flat_map(|(source, task)| task.addresses.iter().map(move |it| (source, it)));
    all.map(|(source, address)| AddressReport {
        address: address.to_string(),
        source: source.as_str().into(),
    })
    .collect()
}

fn facts(source: Source, details: &[Detail]) -> impl Iterator<Item = Fact> {
    details.iter().map(move |(attribute, value)| Fact {
        attribute: *attribute,
        value: value.clone(),
        source,
    })
}

fn merged(facts: impl Iterator<Item = Fact>) -> BTreeMap<String, FieldReport> {
    of_identity(&Identity::default().merge(facts).0)
}

/// Fields of an identity, by name.
pub(super) fn of_identity(identity: &Identity) -> BTreeMap<String, FieldReport> {
    let fields = identity.facts().map(|fact| {
        let field = FieldReport { value: fact.value.into(), source: fact.source.as_str().into() };
        (fact.attribute.as_str().to_owned(), field)
    });
    fields.collect()
}

/// The value of a field; empty if no source gives one.
pub(super) fn value(fields: &BTreeMap<String, FieldReport>, attribute: Attribute) -> &str {
    fields.get(attribute.as_str()).map_or("", |field| &field.value)
}

/// The addresses of an ENI, separated by commas.
pub(super) fn eni_addresses(eni: &EniReport) -> String {
    let addresses =
        [Attribute::EniIpv4, Attribute::EniIpv6].map(|attribute| value(&eni.fields, attribute));
    addresses.into_iter().filter(|address| !address.is_empty()).collect::<Vec<_>>().join(",")
}

/// Formats fields by source, in lines such as `by file: interface-id = eni-0a, subnet-id =
/// subnet-0a`.
pub(super) fn lines(fields: &BTreeMap<String, FieldReport>) -> Vec<String> {
    let mut by_source = BTreeMap::<&str, Vec<String>>::new();
    for (name, field) in fields {
        by_source.entry(&field.source).or_default().push(format!("{name} = {}", field.value));
    }
    by_source
        .into_iter()
        .map(|(source, fields)| format!("by {source}: {}", fields.join(", ")))
        .collect()
}
