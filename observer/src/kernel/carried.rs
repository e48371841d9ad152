//! The counters of the interfaces themselves, alone and beside the ledger.

use std::{fs, thread, time::Duration};

use observer_ebpf::abi::Ledger;

use super::ledger::Ledgers;
use crate::{ethtool, flow::InterfaceNumber, netlink::LinkCounters, netns::Netns};

/// An interface's own counters and its ledger, read together.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Its own counters.
    pub carried: LinkCounters,
    /// The ledger just afterwards, by direction.
    pub ledgers: [Ledger; 2],
}

/// Between two looks at an interface that is busy.
const STEP: Duration = Duration::from_micros(300);
const LOOKS: u32 = 10;

impl Reading {
    /// Reads both. `None` where the interface is gone.
    pub fn take(netns: &Netns, ifindex: u32, account: (&Ledgers, InterfaceNumber)) -> Option<Self> {
        netns.inside(|| Self::take_here(ifindex, account)).ok()?
    }

    /// The same in the namespace of the calling thread.
    ///
    /// A frame may be on its way between the two accounts. So while frames pass they are read again until two readings,
    /// in each of which the ledger stood still, differ by the same; the last is taken where that does not happen.
    pub fn take_here(ifindex: u32, (ledgers, number): (&Ledgers, InterfaceNumber)) -> Option<Self> {
        let mut before = ledgers.of(number);
        let mut last: Option<Self> = None;
        for look in 0..LOOKS {
            let carried = carried_here(ifindex)?;
            let after = ledgers.of(number);
            let now = Self { carried, ledgers: after };
            let stood_still = frames(&before) == frames(&after);
            // Nothing has passed since the look before, or as much in both accounts.
            if look > 0 && stood_still && last.is_some_and(|last| last.difference() == now.difference()) {
                return Some(now);
            }
            last = Some(now);
            before = after;
            thread::sleep(STEP);
        }
        last
    }

    /// Frames and bytes by its own counters, less those by the ledger.
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

fn frames(ledgers: &[Ledger; 2]) -> [u64; 2] {
    std::array::from_fn(|side| ledgers[side].frames)
}

/// The counters of an interface. `None` where it is gone.
pub fn carried(netns: &Netns, ifindex: u32) -> Option<LinkCounters> {
    netns.inside(|| carried_here(ifindex)).ok()?
}

/// The same in the namespace of the calling thread.
///
/// Not by netlink, which waits for whoever changes an interface anywhere.
pub(super) fn carried_here(ifindex: u32) -> Option<LinkCounters> {
    /// An interface may get another name between two calls.
    const ATTEMPTS: usize = 3;
    (0..ATTEMPTS).find_map(|_| {
        let name = ethtool::name(ifindex).ok()?;
        in_table(&fs::read("/proc/thread-self/net/dev").ok()?, name.as_bytes())
    })
}

/// A line of `/proc/net/dev`: eight numbers of what was received, and eight of what was sent. Names may be any bytes, but
/// for colons and white space.
fn in_table(table: &[u8], name: &[u8]) -> Option<LinkCounters> {
    let mut lines = table.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_start);
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(b":"))?;
    let text = str::from_utf8(line).ok()?;
    let numbers: Vec<u64> = text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
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
        assert!(carried_here(1).is_some());
        assert_eq!(carried_here(u32::MAX >> 1), None);
    }
}
