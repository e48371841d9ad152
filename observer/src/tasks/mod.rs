//! Who is on this host.
//!
//! Owns: which network namespaces and interfaces exist, which of them are observed, and whose they are. In: what the
//! kernel says of links and addresses, and what sources say of tasks. Out: [`Observed`] interfaces, a whole list at
//! each change. Knows nothing of programs and flows.
//!
//! The kernel alone says what exists. Sources only add names: no source can make or end an interface.

mod file;
mod identity;
mod interface;
mod namespaces;
mod selection;
mod watch;

use std::sync::Arc;

pub use file::{TasksFile, TasksFileError};
pub use identity::{Attribute, Fact, Identity, Source};
pub use interface::{Interface, LinkKind, Mac};
pub use namespaces::PROC;
pub use watch::{Watch, WatchHandle, WatchOptions};

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

/// An interface that is to be observed, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What tells it from others.
    pub key: InterfaceKey,
    /// What the kernel says of it.
    pub interface: Interface,
    /// What the sources say.
    pub identity: Arc<Identity>,
}
