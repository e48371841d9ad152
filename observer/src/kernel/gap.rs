//! Traffic that an interface carried before programs were attached to it.

use std::{thread, time::Duration};

use observer_ebpf::abi::Ledger;

use super::{counters::device_counters, ledger::Ledgers};
use crate::{
    flow::{InterfaceNumber, Traffic},
    linux::{netlink::LinkCounters, netns::Netns},
};

/// Device counters of an interface just before programs are attached to it.
///
/// The programs have counted none of the earlier traffic. They may have counted traffic that passes
/// while they are being attached, so counters and ledger are compared again afterwards.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Counters when the interface appeared.
    base: LinkCounters,
    /// Counters just before attaching.
    before: LinkCounters,
    /// Ledger under its number before attaching.
    ledgers: [Ledger; 2],
}

/// Time within which a frame counted by the device is also counted by the programs, or the reverse.
const SETTLE: Duration = Duration::from_millis(2);
/// Maximum number of comparisons.
const COMPARISONS: u32 = 5;

/// Length of an Ethernet header in bytes.
const ETHERNET: u64 = 14;

impl Gap {
    /// Reads the counters before programs are attached. Returns `None` if the interface is gone.
    pub fn open(
        base: LinkCounters,
        netns: &Netns,
        ifindex: u32,
        (ledgers, number): (&Ledgers, InterfaceNumber),
    ) -> Option<Self> {
        Some(Self { base, before: device_counters(netns, ifindex)?, ledgers: ledgers.of(number) })
    }

    /// Returns the uncounted traffic by direction, after programs are attached. Bytes exclude link
    /// headers. Frames without an IP packet are included, because no program has examined them.
    pub fn close(
        &self,
        netns: &Netns,
        ifindex: u32,
        ethernet: bool,
        (ledgers, number): (&Ledgers, InterfaceNumber),
    ) -> [Traffic; 2] {
        // If the interface is gone by now, use the first reading.
        let after = device_counters(netns, ifindex).unwrap_or(self.before);
        let mut missed = self.missed(after, &ledgers.of(number));
        let mut now = after;
        for _ in 0..COMPARISONS {
            if after == self.before {
                break;
            }
            thread::sleep(SETTLE);
            let seen = ledgers.of(number);
            let Some(later) = device_counters(netns, ifindex) else { break };
            missed = self.missed(later, &seen);
            if later == now {
                break;
            }
            now = later;
        }
        // In any case, traffic before attaching was missed, and traffic after attaching was not.
        std::array::from_fn(|side| {
            let frames = |counters: &LinkCounters| {
                counters.frames[side].saturating_sub(self.base.frames[side])
            };
            let bytes = |counters: &LinkCounters| {
                counters.bytes[side].saturating_sub(self.base.bytes[side])
            };
            let packets = missed[side]
                .packets
                .clamp(frames(&self.before), frames(&after).max(frames(&self.before)));
            let bytes = missed[side]
                .bytes
                .clamp(bytes(&self.before), bytes(&after).max(bytes(&self.before)));
            let header = if ethernet { ETHERNET } else { 0 };
            Traffic { packets, bytes: bytes.saturating_sub(packets * header) }
        })
    }

    /// Traffic since the interface appeared that the programs have not counted, including link
    /// headers.
    fn missed(&self, counters: LinkCounters, ledgers: &[Ledger; 2]) -> [Traffic; 2] {
        std::array::from_fn(|side| {
            let seen = ledgers[side].frames.wrapping_sub(self.ledgers[side].frames);
            let seen_bytes = ledgers[side].frame_bytes.wrapping_sub(self.ledgers[side].frame_bytes);
            let carried = counters.frames[side].saturating_sub(self.base.frames[side]);
            let carried_bytes = counters.bytes[side].saturating_sub(self.base.bytes[side]);
            Traffic {
                packets: carried.saturating_sub(seen),
                bytes: carried_bytes.saturating_sub(seen_bytes),
            }
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
    fn traffic_counted_by_the_device_and_not_by_the_programs_is_missed() {
        let gap = Gap { base: link(3), before: link(5), ledgers: seen(100) };
        assert_eq!(gap.missed(link(9), &seen(103))[0], Traffic { packets: 3, bytes: 342 });
        // A frame that the programs counted before the device did is not missed.
        assert_eq!(gap.missed(link(5), &seen(104))[0], Traffic::NONE);
    }
}
