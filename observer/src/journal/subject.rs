//! Interfaces and their identities, as JSON.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    accounts::Named,
    flow::InterfaceNumber,
    record::Subject,
    tasks::{Attribute, Fact, Identity, InterfaceKey, Source},
};

/// An interface under its number, with its identity at this time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct InterfaceEntry {
    number: u16,
    netns: u64,
    ifindex: u32,
    older: bool,
    #[serde(flatten)]
    subject: SubjectEntry,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct SubjectEntry {
    id: Box<str>,
    name: Box<str>,
    mac: Box<str>,
    subject_netns: u64,
    primary: Option<Ipv4Addr>,
    subnets: Vec<IpNet>,
    facts: Vec<(String, String, Box<str>)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    tenants: BTreeMap<Box<str>, Self>,
}

impl InterfaceEntry {
    pub(super) fn new(number: InterfaceNumber, key: InterfaceKey, named: &Named) -> Self {
        Self {
            number: number.get(),
            netns: key.netns,
            ifindex: key.ifindex,
            older: named.older,
            subject: SubjectEntry::of(&named.subject),
        }
    }

    pub(super) const fn number(&self) -> InterfaceNumber {
        InterfaceNumber::new(self.number)
    }

    /// Key in no process: the number of the interface's birth is that of the earlier run.
    pub(super) const fn key(&self) -> InterfaceKey {
        InterfaceKey { netns: self.netns, birth: u64::MAX, ifindex: self.ifindex }
    }

    pub(super) fn mac(&self) -> &str {
        &self.subject.mac
    }

    pub(super) fn named(&self) -> Named {
        Named {
            subject: Arc::new(self.subject.subject()),
            awaits_identity: false,
            older: self.older,
        }
    }
}

impl SubjectEntry {
    fn of(subject: &Subject) -> Self {
        let Subject {
            interface_id,
            interface_name,
            mac,
            netns,
            primary,
            subnets,
            identity,
            tenants,
        } = subject;
        let facts = Attribute::ALL.iter().filter_map(|attribute| {
            let (value, source) = (identity.get(*attribute)?, identity.source(*attribute)?);
            Some((attribute.as_str().to_owned(), source.as_str().to_owned(), value.into()))
        });
        Self {
            id: interface_id.clone(),
            name: interface_name.clone(),
            mac: mac.clone(),
            subject_netns: *netns,
            primary: *primary,
            subnets: subnets.clone(),
            facts: facts.collect(),
            tenants: tenants
                .iter()
                .map(|(container, tenant)| (container.clone(), Self::of(tenant)))
                .collect(),
        }
    }

    fn subject(&self) -> Subject {
        // An attribute or a source of another version is left out.
        let facts = self.facts.iter().filter_map(|(attribute, source, value)| {
            let attribute = Attribute::ALL.iter().find(|it| it.as_str() == attribute)?;
            let source = Source::ALL.iter().find(|it| it.as_str() == source)?;
            Some(Fact { attribute: *attribute, value: value.clone(), source: *source })
        });
        Subject {
            interface_id: self.id.clone(),
            interface_name: self.name.clone(),
            mac: self.mac.clone(),
            netns: self.subject_netns,
            primary: self.primary,
            subnets: self.subnets.clone(),
            identity: Arc::new(Identity::default().merge(facts).0),
            tenants: self
                .tenants
                .iter()
                .map(|(container, tenant)| (container.clone(), tenant.subject()))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_read_as_it_was_written() {
        let fact = |attribute, value: &str, source| Fact { attribute, value: value.into(), source };
        let identity = Identity::default()
            .merge([
                fact(Attribute::TaskId, "0123", Source::Docker),
                fact(Attribute::InterfaceId, "eni-1", Source::Agent),
            ])
            .0;
        let plain = Subject {
            interface_id: "eni-1".into(),
            interface_name: "eth0".into(),
            mac: "02:00:00:00:00:01".into(),
            netns: 7,
            primary: Some(Ipv4Addr::new(10, 0, 0, 1)),
            subnets: vec!["10.0.0.0/24".parse().unwrap()],
            identity: Arc::new(identity),
            tenants: BTreeMap::new(),
        };
        let subject =
            Subject { tenants: [("container".into(), plain.clone())].into(), ..plain.clone() };
        let named = Named { subject: Arc::new(subject), awaits_identity: true, older: true };
        let key = InterfaceKey { netns: 7, birth: 3, ifindex: 2 };
        let entry = InterfaceEntry::new(InterfaceNumber::new(4), key, &named);
        let text = serde_json::to_string(&entry).unwrap();
        let read: InterfaceEntry = serde_json::from_str(&text).unwrap();
        assert_eq!((read.number().get(), read.key().netns, read.key().ifindex), (4, 7, 2));
        assert_eq!(format!("{:?}", read.named().subject), format!("{:?}", named.subject));
        assert_eq!(read.mac(), "02:00:00:00:00:01");
    }
}
