//! Who is on this host.
//!
//! Owns: which network namespaces and interfaces exist, which of them are observed, and whose they are. In: what the
//! kernel says of links and addresses, and what sources say of tasks. Out: [`Observed`] interfaces, a whole list at
//! each change. Knows nothing of programs and flows.
//!
//! The kernel alone says what exists. Sources only add names: no source can make or end an interface.

mod arn;
mod board;
mod folders;
#[cfg(test)]
pub(crate) mod hostile;
mod identity;
mod interface;
mod knowledge;
mod namespaces;
mod paths;
mod processes;
mod report;
mod resolve;
mod selection;
mod sources;
mod spaces;
mod told;
mod view;
mod watch;

use std::{collections::BTreeMap, sync::Arc, time::Instant};

pub use board::{AttachState, Board};
pub use identity::{Attribute, Conflict, Fact, Identity, Source};
pub(crate) use identity::{one_word, printable};
pub use interface::{Interface, LinkKind, Mac, OtherDevice, mac_of};
pub use processes::{PROC, container_in};
pub use report::Report;
pub use sources::{ApiOptions, Endpoint, SourceObserver, SourceOptions, State, TasksFile, TasksFileError};
pub use watch::{Sighting, Tidings, Watch, WatchHandle, WatchOptions};

use crate::netlink::LinkCounters;

/// What tells one interface from every other that was ever seen.
///
/// Never its name or index alone: both are the same in every namespace, and inodes of namespaces are used again. Not
/// its MAC address either: that may change, and the programs stay where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceKey {
    /// Inode of its namespace.
    pub netns: u64,
    /// How many interfaces this process had seen when it first saw this one.
    pub birth: u64,
    /// Index within the namespace.
    pub ifindex: u32,
}

/// The beginning of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appeared {
    /// When the kernel told of it.
    pub at: Instant,
    /// What it had carried before, as a task's: a network card may have served the host.
    pub carried: LinkCounters,
}

/// An interface that is to be observed, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What tells it from others.
    pub key: InterfaceKey,
    /// What the kernel says of it.
    pub interface: Interface,
    /// When it appeared; `None` where it was there before the daemon, or long before it was to be observed.
    pub appeared: Option<Appeared>,
    /// What the sources say.
    pub identity: Arc<Identity>,
    /// Of an interface of the host, what they say of those whose flows may pass it, by container.
    pub tenants: Arc<BTreeMap<Box<str>, Arc<Identity>>>,
    /// Whether its task, or its ENI's id, is not known yet, and there is somebody who may still tell.
    pub awaits_identity: bool,
    /// Whether it was there before the daemon.
    pub older: bool,
}
