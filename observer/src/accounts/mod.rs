//! The sums of an interface that its hooks cannot give: what it carried by its own counters, and the hooks did not see.
//!
//! Owns: the comparison of the interface's own counters with the programs' ledger, the losses that follow from it, and
//! their reasons. In: readings of both, and the times of the readings. Out: [`Loss`]es that are certain. Pure: no clock
//! and no I/O.
//!
//! - [`comparison`]: the two accounts of an interface, side by side, and when to read them
//! - [`gap`]: the programs were not on the interface for a while
//! - [`unseen`]: they were, and frames passed them by

pub mod comparison;
pub mod gap;
pub mod unseen;

use observer_ebpf::abi::{Direction, Ledger, Loss};

/// The reasons of losses that the programs did not count: they were not on the interface, or the frames passed them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Uncounted {
    /// Before the programs were put on a new interface.
    BeforeAttach,
    /// Somebody had removed the programs.
    HookRemoved,
    /// The programs were there, and the frames passed them by.
    Unseen,
}

impl Uncounted {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::BeforeAttach, Self::HookRemoved, Self::Unseen];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BeforeAttach => "before_attach",
            Self::HookRemoved => "hook_removed",
            Self::Unseen => "unseen",
        }
    }
}

/// Losses that the programs did not count, by reason and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UncountedLosses([[Loss; 2]; Uncounted::ALL.len()]);

impl UncountedLosses {
    /// Adds losses of both directions.
    pub const fn add(&mut self, reason: Uncounted, losses: [Loss; 2]) {
        let [ingress, egress] = &mut self.0[reason as usize];
        *ingress = plus(*ingress, losses[0]);
        *egress = plus(*egress, losses[1]);
    }

    /// Those of one reason.
    pub const fn of(&self, reason: Uncounted) -> [Loss; 2] {
        self.0[reason as usize]
    }

    /// All of them.
    pub fn total(&self) -> Loss {
        self.0.into_iter().flatten().fold(Loss::default(), plus)
    }
}

const fn plus(a: Loss, b: Loss) -> Loss {
    Loss { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// Frames and bytes of one direction, by the interface's own counters or by the ledger, with link headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// How many.
    pub count: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Frames {
    /// The growth since an earlier reading.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// As a loss: without the link header of each frame.
    pub const fn as_loss(self, ethernet: bool) -> Loss {
        let headers = if ethernet { self.count * ETHERNET } else { 0 };
        Loss { packets: self.count, bytes: self.bytes.saturating_sub(headers) }
    }
}

/// Length of an Ethernet header.
const ETHERNET: u64 = 14;

/// The ledger's account of one direction, as far as an interface's own counters can be compared with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Socket buffers, super-packets as one.
    pub frames: Frames,
    /// Frames on the wire: the most that the interface can have counted for those buffers.
    pub wire: u64,
}

impl Seen {
    /// That of a ledger. On ingress, what was dropped before the hook came across the interface; on egress it did not.
    pub fn of(ledger: &Ledger, direction: Direction) -> Self {
        let stopped = if direction == Direction::Ingress { ledger.stopped.packets } else { 0 };
        Self {
            frames: Frames { count: ledger.frames, bytes: ledger.frame_bytes },
            wire: ledger.packets + ledger.non_ip.iter().sum::<u64>() + stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_add_up_by_reason_and_direction() {
        let mut losses = UncountedLosses::default();
        let one = Loss { packets: 1, bytes: 50 };
        losses.add(Uncounted::HookRemoved, [one, Loss::default()]);
        losses.add(Uncounted::HookRemoved, [one, one]);
        losses.add(Uncounted::Unseen, [Loss::default(), one]);
        assert_eq!(losses.of(Uncounted::HookRemoved), [Loss { packets: 2, bytes: 100 }, one]);
        assert_eq!(losses.of(Uncounted::BeforeAttach), [Loss::default(); 2]);
        assert_eq!(losses.total(), Loss { packets: 4, bytes: 200 });
    }

    #[test]
    fn what_was_stopped_crossed_the_interface_on_ingress_only() {
        let stopped = Loss { packets: 3, bytes: 300 };
        let ledger = Ledger {
            frames: 5,
            frame_bytes: 900,
            packets: 40,
            non_ip: [1, 2, 0, 0],
            stopped,
            ..Ledger::default()
        };
        let frames = Frames { count: 5, bytes: 900 };
        assert_eq!(Seen::of(&ledger, Direction::Ingress), Seen { frames, wire: 46 });
        assert_eq!(Seen::of(&ledger, Direction::Egress), Seen { frames, wire: 43 });
    }

    #[test]
    fn a_loss_has_no_link_headers() {
        let frames = Frames { count: 2, bytes: 128 };
        assert_eq!(frames.as_loss(true), Loss { packets: 2, bytes: 100 });
        assert_eq!(frames.as_loss(false), Loss { packets: 2, bytes: 128 });
        assert_eq!(Frames { count: 9, bytes: 20 }.as_loss(true).bytes, 0);
    }
}
