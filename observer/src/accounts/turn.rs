//! A tick, and its results.

use std::sync::Arc;

use super::{Protocol, UncountedLosses};
use crate::{
    flow::{Direction, InterfaceNumber, Table, Traffic, Window},
    record::{Batch, Mark, Owners, Subject},
};

/// A tick under way.
#[derive(Debug)]
pub struct Turn {
    pub(super) now_ms: i64,
    /// The window that follows, where the open one is over.
    pub(super) next: Option<Window>,
    /// Flows of the next window: a late tick finds some that began after the edge.
    pub(super) next_flows: Table,
    /// Interfaces that were retired before the flip.
    pub(super) retired: Vec<InterfaceNumber>,
}

/// Parts of a batch that other rooms add.
#[derive(Debug, Default)]
pub struct Annex {
    /// Containers of flows on shared interfaces.
    pub owners: Owners,
    /// Tells when all outputs are done with the window.
    pub mark: Option<Mark>,
}

/// Results of a tick.
#[derive(Debug, Default)]
pub struct Outcome {
    /// To be written, in this order.
    pub batches: Vec<Batch>,
    /// Numbers under which everything is recorded. They may be given again.
    pub freed: Vec<InterfaceNumber>,
    /// Traffic that was dropped too late to be taken out of its accepted flow.
    pub late: Traffic,
    /// Traffic that programs did not count, since the last tick.
    pub uncounted: UncountedLosses,
    /// Traffic that was recorded since the last tick, of interfaces whose identity is not awaited.
    pub recorded: Vec<(Arc<Subject>, Direction, Protocol, Traffic)>,
    /// Traffic that the window had no room for, since the last tick.
    pub refused: Traffic,
    /// Packets rejected behind the hook that had no room for a flow of their own, since the last
    /// tick.
    pub rejects_refused: u64,
    /// Packets that the window that was closed had no room for.
    pub refused_in_window: u64,
    /// It was memory that had no room, not the window.
    pub out_of_memory: bool,
}
