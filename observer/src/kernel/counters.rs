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

/// Ledgers just before and after the device counters were read.
#[derive(Clone, Copy)]
struct Bracket {
    before: [Ledger; 2],
    reading: Reading,
}

impl Reading {
    /// Reads both. Returns `None` if the interface is gone.
    pub fn take(netns: &Netns, ifindex: u32, account: (&Ledgers, InterfaceNumber)) -> Option<Self> {
        netns.inside(|| Self::take_here(ifindex, account)).ok()?
    }

    /// Reads both in the namespace of the calling thread.
    pub fn take_here(ifindex: u32, (ledgers, number): (&Ledgers, InterfaceNumber)) -> Option<Self> {
        let brackets = (0..READINGS).map_while(|number_of_reading| {
            if number_of_reading > 0 {
                // A thread that has just slept is rarely interrupted during the next reading.
                thread::sleep(STEP);
            }
            let before = ledgers.of(number);
            let carried = device_counters_here(ifindex)?;
            Some(Bracket { before, reading: Self { carried, ledgers: ledgers.of(number) } })
        });
        Self::consistent(brackets)
    }

    /// The first reading that is consistent, or the one with the least error.
    ///
    /// A reading during which the ledger did not change can be wrong only by frames that one of
    /// both had counted and the other had not. It is consistent if the next such reading shows the
    /// same difference between counters and ledger. Otherwise the error is at most the number of
    /// frames by which the ledger changed.
    fn consistent(brackets: impl Iterator<Item = Bracket>) -> Option<Self> {
        let mut quiet: Option<Self> = None;
        let mut best: Option<(u64, Self)> = None;
        for bracket in brackets {
            let (change, reading) = (bracket.change(), bracket.reading);
            if change == 0 {
                if quiet.is_some_and(|quiet| quiet.difference() == reading.difference()) {
                    return Some(reading);
                }
                quiet = Some(reading);
            }
            if best.is_none_or(|(least, _)| change <= least) {
                best = Some((change, reading));
            }
        }
        best.map(|(_, reading)| reading)
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

impl Bracket {
    /// Frames that the ledger counted while the device counters were read.
    fn change(&self) -> u64 {
        let after = self.reading.ledgers;
        let frames = |side: usize| after[side].frames.wrapping_sub(self.before[side].frames);
        frames(0).max(frames(1))
    }
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

    /// A reading of so many frames in the device counters, and in the ledger before and after.
    fn bracket(carried: u64, (before, after): (u64, u64)) -> Bracket {
        let ledgers = |frames| [Ledger { frames, ..Ledger::default() }; 2];
        let carried = LinkCounters { frames: [carried; 2], bytes: [0; 2] };
        Bracket { before: ledgers(before), reading: Reading { carried, ledgers: ledgers(after) } }
    }

    fn taken(readings: &[(u64, (u64, u64))]) -> Option<(u64, u64)> {
        let brackets = readings.iter().map(|(carried, ledger)| bracket(*carried, *ledger));
        let reading = Reading::consistent(brackets)?;
        Some((reading.carried.frames[0], reading.ledgers[0].frames))
    }

    #[test]
    fn a_reading_during_which_frames_pass_is_not_taken() {
        // The reader was interrupted while 104 frames passed.
        assert_eq!(
            taken(&[(10, (10, 114)), (115, (115, 115)), (116, (116, 116))]),
            Some((116, 116))
        );
        assert_eq!(taken(&[(10, (10, 10)), (115, (11, 115)), (116, (116, 116))]), Some((116, 116)));
    }

    #[test]
    fn a_frame_on_its_way_between_both_is_waited_for() {
        let readings = [(10, (11, 11)), (12, (12, 12)), (13, (13, 13))];
        assert_eq!(taken(&readings), Some((13, 13)));
    }

    #[test]
    fn the_reading_with_the_least_error_is_taken_under_steady_traffic() {
        assert_eq!(taken(&[(10, (8, 20)), (31, (30, 32)), (50, (44, 60))]), Some((31, 32)));
        assert_eq!(taken(&[]), None);
    }

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
