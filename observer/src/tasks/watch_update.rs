//! Messages from the watch to the thread that attaches programs.

use std::collections::BTreeSet;

use super::Observed;

/// The interfaces to observe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceSet {
    /// Interfaces that exist now.
    pub present: Vec<Observed>,
    /// Interfaces that are gone, and whose identity may still become known.
    pub departed: Vec<Observed>,
    /// Number of links to the ECS agent that are left out.
    pub agent_links: usize,
    /// Number of other interfaces that are left out, loopbacks not counted.
    pub left_out: usize,
}

/// A message from the watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchUpdate {
    /// The interfaces to observe. Sent whenever the list or an identity in it has changed.
    Interfaces(InterfaceSet),
    /// Interfaces that have lost, or may have lost, a qdisc or a filter: inode of the namespace and
    /// index.
    HooksGone(BTreeSet<(u64, u32)>),
}
