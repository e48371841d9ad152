//! The state of an interface whose programs have been removed.

use std::time::Instant;

use crate::{
    accounts::{
        Frames,
        gap::{Balance, Gap},
    },
    flow::Traffic,
    kernel::Missing,
    tasks::AttachState,
};

/// An interface from which somebody has removed programs.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) missing: Missing,
    /// The directions in which packets pass uncounted: not that of XDP where a TC program behind it
    /// counts what XDP has not.
    pub(super) uncounted: [bool; 2],
    /// The last reading before.
    pub(super) before: [Balance; 2],
    /// The interface's own counters when the programs were missed.
    pub(super) noticed: [Frames; 2],
    pub(super) attempts: u32,
    pub(super) again: Instant,
    pub(super) reason: Box<str>,
    /// The removal was logged, and so is the end of it.
    pub(super) logged: bool,
}

impl Absent {
    pub(super) fn state(&self) -> AttachState {
        AttachState::Detached(self.reason.clone())
    }

    /// What passed meanwhile, by direction.
    pub(super) fn missed(
        &self,
        ending: [Frames; 2],
        after: [Balance; 2],
        ethernet: bool,
    ) -> [Traffic; 2] {
        std::array::from_fn(|side| {
            if !self.uncounted[side] {
                return Traffic::NONE;
            }
            let (before, noticed) = (self.before[side], self.noticed[side]);
            let gap = Gap { before, noticed, ending: ending[side], after: after[side] };
            gap.frames().as_loss(ethernet)
        })
    }
}

/// What was done for an interface whose programs somebody had removed before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restored {
    /// The last time that they were put back.
    pub(super) at: Option<Instant>,
    /// The last time that this was logged.
    pub(super) logged: Option<Instant>,
}
