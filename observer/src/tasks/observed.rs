//! The interfaces that the watch hands out to be observed.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use super::{Identity, Interface};
use crate::linux::netlink::LinkCounters;

/// Key of an interface, unique over the life of this process.
///
/// Neither name nor index is unique, because both repeat in every namespace, and the kernel reuses
/// inodes of namespaces. The MAC address may change while the programs stay attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceKey {
    /// Inode of the interface's namespace.
    pub netns: u64,
    /// Number of interfaces that this process had seen when it first saw this one.
    pub birth: u64,
    /// Index within the namespace.
    pub ifindex: u32,
}

/// The first appearance of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appeared {
    /// Time of the kernel's event.
    pub at: Instant,
    /// Counters of the link at that time. They are not zero where a network card served the host
    /// before.
    pub carried: LinkCounters,
}

/// An interface to observe, and its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The interface's key.
    pub key: InterfaceKey,
    /// The interface as the kernel describes it.
    pub interface: Interface,
    /// First appearance of the interface; `None` if it existed before the daemon, or long before it
    /// was chosen.
    pub appeared: Option<Appeared>,
    /// Identity of the interface, merged from all sources.
    pub identity: Arc<Identity>,
    /// For an interface of the host: identities of the containers that may send through it, by
    /// container id.
    pub tenants: Arc<BTreeMap<Box<str>, Arc<Identity>>>,
    /// True while the task or the ENI id is unknown and a source may still provide it.
    pub awaits_identity: bool,
    /// True if the interface existed before the daemon.
    pub older: bool,
}
