//! State and results of a tick.

use std::{collections::BTreeSet, sync::Arc};

use super::{Protocol, UncountedLosses};
use crate::{
    flow::{Direction, InterfaceNumber, Table, Traffic, Window},
    record::{Batch, Mark, Owners, Subject},
};

/// A tick in progress.
#[derive(Debug)]
pub struct OpenTick {
    pub(super) now_ms: i64,
    /// The next window, if the open one is over.
    pub(super) next: Option<Window>,
    /// Flows of the next window. A late tick finds flows that began after the boundary.
    pub(super) next_flows: Table,
    /// Interfaces that were retired before the flip.
    pub(super) retired: Vec<InterfaceNumber>,
}

/// Parts of a batch that other rooms provide.
#[derive(Debug, Default)]
pub struct BatchExtras {
    /// Containers of flows on shared interfaces.
    pub owners: Owners,
    /// Signals that all outputs are done with the window.
    pub mark: Option<Mark>,
    /// Number of the window in the journal.
    pub sequence: Option<u64>,
}

/// Results of a tick.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Batches to write, in this order.
    pub batches: Vec<Batch>,
    /// Interfaces whose records of the closed window are held.
    pub held: BTreeSet<InterfaceNumber>,
    /// Numbers whose counts are all recorded. They may be reused.
    pub freed: Vec<InterfaceNumber>,
    /// Traffic that was dropped too late to be subtracted from its accepted flow.
    pub late: Traffic,
    /// Traffic that the programs have not counted since the last tick.
    pub uncounted: UncountedLosses,
    /// Newly recorded traffic of interfaces whose identity is not awaited.
    pub recorded: Vec<(Arc<Subject>, Direction, Protocol, Traffic)>,
    /// Traffic for which the window had no room, since the last tick.
    pub refused: Traffic,
    /// Packets dropped after the hook whose rejected flow found no room, since the last tick.
    pub rejects_refused: u64,
    /// Packets for which the closed window had no room.
    pub refused_in_window: u64,
    /// True if memory was full, rather than the window.
    pub out_of_memory: bool,
}
