//! What an interface carried before the programs were on it.

use std::{thread, time::Duration};

use observer_ebpf::abi::Ledger;

use super::{carried::carried, ledger::Ledgers};
use crate::{
    flow::{InterfaceNumber, Traffic},
    netlink::LinkCounters,
    netns::Netns,
};

/// A look at an interface's own counters just before the programs are put on it.
///
/// What it counted until then they have not. What it counts while they are put on it they may have: then the two
/// accounts are compared once more.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// What it had carried when it appeared.
    base: LinkCounters,
    /// What it has carried now.
    before: LinkCounters,
    /// The account under its number before it came.
    ledgers: [Ledger; 2],
}

/// Frames that are counted by the interface reach the programs, or have left them, within this time.
const SETTLE: Duration = Duration::from_millis(2);
const LOOKS: u32 = 5;

/// Length of an Ethernet header.
const ETHERNET: u64 = 14;

impl Gap {
    /// Looks. `None` where the interface cannot be read: it is gone.
    pub fn open(
        base: LinkCounters,
        netns: &Netns,
        ifindex: u32,
        (ledgers, number): (&Ledgers, InterfaceNumber),
    ) -> Option<Self> {
        Some(Self { base, before: carried(netns, ifindex)?, ledgers: ledgers.of(number) })
    }

    /// What passed uncounted in each direction, once the programs are there. Frames that carried no IP packet are
    /// among it: nobody looked at them.
    pub fn close(
        &self,
        netns: &Netns,
        ifindex: u32,
        ethernet: bool,
        (ledgers, number): (&Ledgers, InterfaceNumber),
    ) -> [Traffic; 2] {
        // Of one that is gone by now at least the first look is known.
        let after = carried(netns, ifindex).unwrap_or(self.before);
        let mut missed = self.missed(after, &ledgers.of(number));
        let mut now = after;
        for _ in 0..LOOKS {
            if after == self.before {
                break;
            }
            thread::sleep(SETTLE);
            let seen = ledgers.of(number);
            let Some(later) = carried(netns, ifindex) else { break };
            missed = self.missed(later, &seen);
            if later == now {
                break;
            }
            now = later;
        }
        // Whatever the comparison says: what came before was missed, and what comes now is not.
        std::array::from_fn(|side| {
            let frames =
                |counters: &LinkCounters| counters.frames[side].saturating_sub(self.base.frames[side]);
            let bytes = |counters: &LinkCounters| counters.bytes[side].saturating_sub(self.base.bytes[side]);
            let packets =
                missed[side].packets.clamp(frames(&self.before), frames(&after).max(frames(&self.before)));
            let bytes = missed[side].bytes.clamp(bytes(&self.before), bytes(&after).max(bytes(&self.before)));
            let header = if ethernet { ETHERNET } else { 0 };
            Traffic { packets, bytes: bytes.saturating_sub(packets * header) }
        })
    }

    /// What the interface counted since it appeared and the programs did not, with link headers.
    fn missed(&self, counters: LinkCounters, ledgers: &[Ledger; 2]) -> [Traffic; 2] {
        std::array::from_fn(|side| {
            let seen = ledgers[side].frames.wrapping_sub(self.ledgers[side].frames);
            let seen_bytes = ledgers[side].frame_bytes.wrapping_sub(self.ledgers[side].frame_bytes);
            let carried = counters.frames[side].saturating_sub(self.base.frames[side]);
            let carried_bytes = counters.bytes[side].saturating_sub(self.base.bytes[side]);
            Traffic { packets: carried.saturating_sub(seen), bytes: carried_bytes.saturating_sub(seen_bytes) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(frames: u64) -> LinkCounters {
        LinkCounters { frames: [frames, 0], bytes: [frames * 114, 0] }
    }

    fn seen(frames: u64) -> [Ledger; 2] {
        let counted = Ledger { frames, frame_bytes: frames * 114, ..Ledger::default() };
        [counted, Ledger::default()]
    }

    #[test]
    fn what_the_interface_counted_and_the_programs_did_not_is_missed() {
        let gap = Gap { base: link(3), before: link(5), ledgers: seen(100) };
        assert_eq!(gap.missed(link(9), &seen(103))[0], Traffic { packets: 3, bytes: 342 });
        // A frame that the programs saw first is not missed.
        assert_eq!(gap.missed(link(5), &seen(104))[0], Traffic::NONE);
    }
}
