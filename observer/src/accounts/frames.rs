use observer_ebpf::abi::{Direction, Ledger};

use crate::flow::Traffic;

/// Frames and bytes of one direction, including link headers: by the interface's own counters or by
/// the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Number of frames.
    pub count: u64,
    /// Bytes of the frames.
    pub bytes: u64,
}

impl Frames {
    /// Growth since an earlier reading.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            count: self.count.saturating_sub(earlier.count),
            bytes: self.bytes.saturating_sub(earlier.bytes),
        }
    }

    /// The frames as lost traffic. Bytes exclude the link header of each frame.
    pub const fn as_loss(self, ethernet: bool) -> Traffic {
        let headers = if ethernet { self.count * ETHERNET } else { 0 };
        Traffic { packets: self.count, bytes: self.bytes.saturating_sub(headers) }
    }
}

/// Length of an Ethernet header in bytes.
const ETHERNET: u64 = 14;

/// Sums of a ledger, for one direction, that can be compared with the interface's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Socket buffers. A super-packet counts as one.
    pub frames: Frames,
    /// Frames on the wire: the most that the interface can have counted for these buffers.
    pub wire: u64,
}

impl Seen {
    /// Takes the sums from a ledger. Packets that were stopped before the hook have crossed the
    /// interface on ingress, but not on egress.
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
