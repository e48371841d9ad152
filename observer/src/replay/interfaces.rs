//! Interfaces of a capture: their numbers, names and accounts.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{
    capture::{Packet, Source},
    link::{LinkType, interface_index},
};
use crate::{
    accounts::Account,
    flow::InterfaceNumber,
    record::Subject,
    tasks::{Identity, Mac},
};

/// Key of an interface in a capture: section and number, name and, in captures of `any`, the index
/// in the packet.
///
/// Sections may come from different hosts, so interfaces of the same name in two sections are two
/// interfaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    number: (usize, usize),
    name: Option<String>,
    link_type: u16,
    index: Option<u32>,
}

/// An interface with packets.
#[derive(Debug)]
pub(super) struct Interface {
    pub(super) subject: Arc<Subject>,
    pub(super) account: Account,
}

/// All interfaces of a capture that have packets.
#[derive(Debug)]
pub(super) struct Interfaces {
    mac: Option<Mac>,
    identity: Arc<Identity>,
    /// Name of interfaces without a name.
    nameless: String,
    /// Largest number of interfaces.
    max: u16,
    /// By number, from 1.
    known: Vec<Interface>,
    numbers: HashMap<Key, InterfaceNumber>,
    /// Earlier results, by source and, in captures of `any`, index.
    cache: HashMap<(usize, Option<u32>), InterfaceNumber>,
}

impl Interfaces {
    /// No interfaces yet, and at most `max`. Interfaces without a name are named after the file.
    pub(super) fn new(file: &Path, mac: Option<Mac>, identity: Arc<Identity>, max: u16) -> Self {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        let nameless = if stem == "-" {
            "stdin".into()
        } else {
            stem.replace(|c: char| c.is_whitespace() || c.is_control() || c == '"', "_")
        };
        Self {
            mac,
            identity,
            nameless,
            max,
            known: Vec::new(),
            numbers: HashMap::new(),
            cache: HashMap::new(),
        }
    }

    /// Number of interfaces.
    pub(super) const fn len(&self) -> usize {
        self.known.len()
    }

    /// Largest number of interfaces.
    pub(super) const fn max(&self) -> u16 {
        self.max
    }

    /// The interfaces with their numbers.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (InterfaceNumber, &mut Interface)> {
        self.known.iter_mut().zip(1..).map(|(it, number)| (InterfaceNumber::new(number), it))
    }

    /// The accounts of all interfaces.
    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.known.iter().map(|interface| &interface.account)
    }

    /// Name and identity of an interface.
    pub(super) fn subject(&self, number: InterfaceNumber) -> Arc<Subject> {
        Arc::clone(&self.known[usize::from(number.get()) - 1].subject)
    }

    /// The number of a packet's interface. `None` if the interface is new, and there are as many as
    /// possible already.
    pub(super) fn number(
        &mut self,
        link: LinkType,
        source: &Source,
        packet: &Packet<'_>,
    ) -> Option<InterfaceNumber> {
        let index = interface_index(link, packet);
        if let Some(number) = self.cache.get(&(packet.source, index)) {
            return Some(*number);
        }
        let key = Key {
            number: source.number,
            name: source.name.clone(),
            link_type: source.link_type,
            index,
        };
        let number = match self.numbers.get(&key) {
            Some(number) => *number,
            None => self.add(key)?,
        };
        self.cache.insert((packet.source, index), number);
        Some(number)
    }

    fn add(&mut self, key: Key) -> Option<InterfaceNumber> {
        let number = self.known.len() as u16 + 1;
        if number > self.max {
            return None;
        }
        let mut name = key.name.clone().unwrap_or_else(|| self.nameless.clone());
        if let Some(index) = key.index {
            name = format!("{name}:{index}");
        }
        let is_taken = |name: &str| self.known.iter().any(|it| *it.subject.interface_name == *name);
        if is_taken(&name) {
            // One of these names is free, because there are more of them than interfaces.
            let mut names = (2..=self.known.len() + 1).map(|count| format!("{name}:{count}"));
            name = names.find(|name| !is_taken(name)).unwrap_or(name);
        }
        let subject = Arc::new(Subject::named(&name, self.mac, Arc::clone(&self.identity)));
        self.known.push(Interface { subject, account: Account::default() });
        let number = InterfaceNumber::new(number);
        self.numbers.insert(key, number);
        Some(number)
    }
}
