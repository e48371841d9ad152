//! State of an interface whose programs were removed.

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

/// An interface whose programs were removed from outside the daemon.
#[derive(Debug)]
pub(super) struct Detached {
    pub(super) missing: Missing,
    /// Directions in which packets pass uncounted. Not the direction of XDP if a TC program behind
    /// it counts the packets that XDP does not.
    pub(super) uncounted: [bool; 2],
    /// Last reading before the removal was noticed.
    pub(super) before: [Balance; 2],
    /// The interface's own counters when the removal was noticed.
    pub(super) noticed: [Frames; 2],
    pub(super) attempts: u32,
    pub(super) again: Instant,
    pub(super) reason: Box<str>,
    /// True if the removal was logged. The reattachment is then logged too.
    pub(super) logged: bool,
}

impl Detached {
    pub(super) fn state(&self) -> AttachState {
        AttachState::Detached(self.reason.clone())
    }

    /// Traffic that passed uncounted, by direction.
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

/// Earlier reattachments of an interface's programs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Restored {
    /// Time of the last reattachment.
    pub(super) at: Option<Instant>,
    /// Time of the last log line about a removal.
    pub(super) logged: Option<Instant>,
}
