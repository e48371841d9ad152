use observer_ebpf::abi::{Direction, Ledger};

use crate::flow::Traffic;

/// Frames and bytes of one direction, by the interface's own counters or by the ledger, with link
/// headers.
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
    pub const fn as_loss(self, ethernet: bool) -> Traffic {
        let headers = if ethernet { self.count * ETHERNET } else { 0 };
        Traffic { packets: self.count, bytes: self.bytes.saturating_sub(headers) }
    }
}

/// Length of an Ethernet header.
const ETHERNET: u64 = 14;

/// The ledger's account of one direction, as far as an interface's own counters can be compared
/// with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Socket buffers, super-packets as one.
    pub frames: Frames,
    /// Frames on the wire: the most that the interface can have counted for those buffers.
    pub wire: u64,
}

impl Seen {
    /// That of a ledger. On ingress, what was dropped before the hook came across the interface; on
    /// egress it did not.
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
    fn what_was_stopped_crossed_the_interface_on_ingress_only() {
        let stopped = observer_ebpf::abi::Loss { packets: 3, bytes: 300 };
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
        assert_eq!(frames.as_loss(true), Traffic { packets: 2, bytes: 100 });
        assert_eq!(frames.as_loss(false), Traffic { packets: 2, bytes: 128 });
        assert_eq!(Frames { count: 9, bytes: 20 }.as_loss(true).bytes, 0);
    }
}
