//! Counters of the kernel's network devices, alone or together with the ledger.

use std::{fs, thread, time::Duration};

use observer_ebpf::abi::Ledger;

use super::ledger::Ledgers;
use crate::{
    flow::InterfaceNumber,
    linux::{ethtool, netlink::LinkCounters, netns::Netns},
};

/// Device counters and ledger of an interface, read together.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Device counters.
    pub carried: LinkCounters,
    /// Ledger just after the counters, by direction.
    pub ledgers: [Ledger; 2],
}

/// Pause between two readings of a busy interface.
const STEP: Duration = Duration::from_micros(300);
/// Maximum number of readings.
const READINGS: u32 = 10;

impl Reading {
    /// Reads both. Returns `None` if the interface is gone.
    pub fn take(netns: &Netns, ifindex: u32, account: (&Ledgers, InterfaceNumber)) -> Option<Self> {
        netns.inside(|| Self::take_here(ifindex, account)).ok()?
    }

    /// Reads both in the namespace of the calling thread.
    ///
    /// A frame may have been counted by the device and not yet by the ledger, or the reverse. So
    /// reading is repeated until two readings, during which the ledger did not change, show the
    /// same difference between counters and ledger. If that never happens, the last reading is
    /// returned.
    pub fn take_here(ifindex: u32, (ledgers, number): (&Ledgers, InterfaceNumber)) -> Option<Self> {
        let mut before = ledgers.of(number);
        let mut last: Option<Self> = None;
        for reading in 0..READINGS {
            let carried = device_counters_here(ifindex)?;
            let after = ledgers.of(number);
            let now = Self { carried, ledgers: after };
            let unchanged = frames(&before) == frames(&after);
            // Since the previous reading, counters and ledger have grown by the same amount or not
            // at all.
            if reading > 0
                && unchanged
                && last.is_some_and(|last| last.difference() == now.difference())
            {
                return Some(now);
            }
            last = Some(now);
            before = after;
            thread::sleep(STEP);
        }
        last
    }

    /// Frames and bytes of the device counters minus those of the ledger, by direction.
    fn difference(&self) -> [[u64; 2]; 2] {
        let Self { carried, ledgers } = self;
        std::array::from_fn(|side| {
            [
                carried.frames[side].wrapping_sub(ledgers[side].frames),
                carried.bytes[side].wrapping_sub(ledgers[side].frame_bytes),
            ]
        })
    }
}

/// Frames by direction.
fn frames(ledgers: &[Ledger; 2]) -> [u64; 2] {
    std::array::from_fn(|side| ledgers[side].frames)
}

/// Device counters of an interface. `None` if it is gone.
pub fn device_counters(netns: &Netns, ifindex: u32) -> Option<LinkCounters> {
    netns.inside(|| device_counters_here(ifindex)).ok()?
}

/// Device counters of an interface in the namespace of the calling thread. `None` if it is gone.
///
/// Not read by netlink, which waits for changes of any interface on the host.
pub(super) fn device_counters_here(ifindex: u32) -> Option<LinkCounters> {
    /// Attempts, because an interface may be renamed between two calls.
    const ATTEMPTS: usize = 3;
    (0..ATTEMPTS).find_map(|_| {
        let name = ethtool::name(ifindex).ok()?;
        in_table(&fs::read("/proc/thread-self/net/dev").ok()?, name.as_bytes())
    })
}

/// Counters of an interface in `/proc/net/dev`. A line has eight numbers for received and eight for
/// sent frames. A name is any sequence of bytes without colons and white space.
fn in_table(table: &[u8], name: &[u8]) -> Option<LinkCounters> {
    let mut lines = table.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))?;
    let text = str::from_utf8(line).ok()?;
    let numbers: Vec<u64> =
        text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let number = |at: usize| numbers.get(at).copied();
    Some(LinkCounters { frames: [number(1)?, number(9)?], bytes: [number(0)?, number(8)?] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_those_of_the_interface_with_this_name() {
        let table = b"Inter-|   Receive\n face |bytes\n  caf\xe9:   9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
            eth01:   1 2 0 0 0 0 0 0   3 4 0 0 0 0 0 0\n  eth0: 500 6 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n";
        let counters = LinkCounters { frames: [6, 8], bytes: [500, 700] };
        assert_eq!(in_table(table, b"eth0"), Some(counters));
        assert_eq!(in_table(table, b"caf\xe9").unwrap().frames, [9, 9]);
        assert_eq!(in_table(table, b"eth"), None);
    }

    #[test]
    fn the_loopback_has_counters() {
        assert!(device_counters_here(1).is_some());
        assert_eq!(device_counters_here(u32::MAX >> 1), None);
    }
}
