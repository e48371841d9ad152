//! A network namespace and its interfaces, as the kernel lists them.

use std::{collections::BTreeMap, time::Instant};

use super::{Appeared, Interface, InterfaceKey, LinkKind, OtherDevice, resolve::NetnsName};
use crate::linux::{
    netlink::{Address, Link, LinkCounters, NetnsId},
    netns::Netns,
};

/// A network namespace.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) netns: Netns,
    /// Number of the namespace as seen from the daemon's; `None` is the daemon's own.
    pub(super) id: Option<NetnsId>,
    /// Number of this namespace among all that were ever added. The kernel reuses inodes; this
    /// number is never reused.
    pub(super) birth: u64,
    /// Name of its file, if that names a task.
    pub(super) name: Option<NetnsName>,
    interfaces: Vec<Interface>,
    /// First appearance of each interface, by index. An interface that is created again with the
    /// same index, name and address counts as a new one: the programs were deleted with the old
    /// one.
    births: BTreeMap<u32, Birth>,
    /// True if the namespace is older than this process.
    older: bool,
    listed: bool,
    /// True if the last attempt to list the interfaces failed, so that `interfaces` may be out of
    /// date.
    pub(super) stale: bool,
}

/// First appearance of an interface.
#[derive(Clone, Copy, Debug)]
struct Birth {
    number: u64,
    appeared: Option<Appeared>,
}

impl Namespace {
    /// A namespace whose interfaces are not listed yet.
    pub(super) const fn new(netns: Netns, id: Option<NetnsId>, birth: u64, older: bool) -> Self {
        Self {
            netns,
            id,
            birth,
            name: None,
            interfaces: Vec::new(),
            births: BTreeMap::new(),
            older,
            listed: false,
            stale: false,
        }
    }

    /// The devices that its interfaces are connected to or derived from.
    pub(super) fn links(&self) -> impl Iterator<Item = OtherDevice> {
        self.interfaces.iter().filter_map(|interface| interface.other)
    }

    /// Its interfaces. Each carries the current path of the namespace, which may change at every
    /// scan.
    pub(super) fn interfaces(
        &self,
    ) -> impl Iterator<Item = (InterfaceKey, Interface, Option<Appeared>)> {
        self.interfaces.iter().filter_map(|interface| {
            let ifindex = interface.ifindex;
            let birth = self.births.get(&ifindex)?;
            let key = InterfaceKey { netns: self.netns.inode, birth: birth.number, ifindex };
            Some((
                key,
                Interface { netns: self.netns.clone(), ..interface.clone() },
                birth.appeared,
            ))
        })
    }

    /// Ends the life of an interface, so that the next one with its index is a new one.
    pub(super) fn forget(&mut self, ifindex: u32) {
        self.births.remove(&ifindex);
    }

    /// Replaces the interfaces by a new listing. `at` is the time of the events that led to it, and
    /// `births` the number of interfaces that were ever seen.
    pub(super) fn take_links(
        &mut self,
        links: &[Link],
        addresses: &[Address],
        at: Instant,
        births: &mut u64,
    ) {
        let before: BTreeMap<_, _> =
            self.interfaces.drain(..).map(|interface| (interface.ifindex, interface.mac)).collect();
        for link in links {
            let interface = Interface::new(&self.netns, self.id.is_none(), link, addresses);
            let carried = link.counters.unwrap_or_default();
            // A new MAC address means another ENI, so packets from now on belong to a new
            // interface. A container runtime may set the address shortly after it creates a pair,
            // while the counters are still zero.
            let is_other = before.get(&interface.ifindex).is_some_and(|mac| *mac != interface.mac)
                && carried != LinkCounters::default();
            if is_other || !self.births.contains_key(&interface.ifindex) {
                *births += 1;
                let appeared = if is_other {
                    Some(Appeared { at, carried })
                } else {
                    self.appearance(at, interface.kind, carried)
                };
                self.births.insert(interface.ifindex, Birth { number: *births, appeared });
            }
            self.interfaces.push(interface);
        }
        (self.listed, self.stale) = (true, false);
    }

    fn appearance(&self, at: Instant, kind: LinkKind, carried: LinkCounters) -> Option<Appeared> {
        let carried = match (self.older, self.listed) {
            // The interface is older than this process.
            (true, false) => return None,
            // Pairs and VLAN devices are created for their task, together with the namespace.
            (false, _) if kind != LinkKind::Physical => LinkCounters::default(),
            _ => carried,
        };
        Some(Appeared { at, carried })
    }
}
