//! Comparison of an interface's own counters with its ledger: the schedule and the results.

use observer_ebpf::abi::Direction;

use super::{
    Frames, Seen,
    gap::Balance,
    unseen::{Counting, Unseen},
};
use crate::flow::Traffic;

/// Interval in milliseconds between comparisons of an interface that carries frames.
const BUSY_MS: i64 = 5000;

/// An interface's own counters and its ledger, read together, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The interface's own counters.
    pub carried: [Frames; 2],
    /// The ledger, read just after the counters.
    pub seen: [Seen; 2],
}

impl Reading {
    /// Counters and ledger, by direction.
    pub fn balance(&self) -> [Balance; 2] {
        std::array::from_fn(|side| Balance {
            carried: self.carried[side],
            seen: self.seen[side].frames,
        })
    }
}

/// Comparison of one interface.
#[derive(Clone, Debug)]
pub struct Comparison {
    unseen: [Unseen; 2],
    first: Reading,
    last: Reading,
    compared_ms: i64,
    /// True if frames were seen since the last comparison.
    moved: bool,
}

impl Comparison {
    /// Begins a comparison when the hooks begin to count, with a reading of that time.
    pub fn new(counting: Counting, now_ms: i64, reading: Reading) -> Self {
        let unseen = |direction: Direction| {
            Unseen::new(direction, counting, now_ms, reading.seen[direction as usize])
        };
        Self {
            unseen: Direction::ALL.map(unseen),
            first: reading,
            last: reading,
            // Due at once: the first comparison is the base of all later ones.
            compared_ms: now_ms - BUSY_MS,
            moved: true,
        }
    }

    /// Records a ledger reading that has grown.
    pub fn note(&mut self, now_ms: i64, seen: [Seen; 2]) {
        self.moved = true;
        for (unseen, seen) in self.unseen.iter_mut().zip(seen) {
            unseen.note(now_ms, seen);
        }
    }

    /// True if the interface's own counters are due to be read: every few seconds while frames are
    /// seen, otherwise at the end of each window.
    pub const fn is_due(&self, now_ms: i64, window_started_ms: i64, window_ends: bool) -> bool {
        self.moved && now_ms - self.compared_ms >= BUSY_MS
            || window_ends && self.compared_ms < window_started_ms
    }

    /// True if [`settle`](Self::settle) needs a reading of the ledger.
    pub fn is_pending(&self) -> bool {
        self.unseen.iter().any(Unseen::is_pending)
    }

    /// Compares a reading. Returns unseen traffic that is certain and not reported yet, by
    /// direction.
    pub fn compare(&mut self, now_ms: i64, reading: Reading) -> [Traffic; 2] {
        (self.last, self.compared_ms, self.moved) = (reading, now_ms, false);
        let mut losses = [Traffic::NONE; 2];
        for (side, unseen) in self.unseen.iter_mut().enumerate() {
            losses[side] = unseen.compare(now_ms, reading.carried[side], reading.seen[side]);
        }
        losses
    }

    /// Decides pending readings with the current ledger. Returns unseen traffic as
    /// [`compare`](Self::compare) does.
    pub fn settle(&mut self, now_ms: i64, seen: [Seen; 2]) -> [Traffic; 2] {
        let mut losses = [Traffic::NONE; 2];
        for (side, unseen) in self.unseen.iter_mut().enumerate() {
            losses[side] = unseen.settle(now_ms, seen[side]);
        }
        losses
    }

    /// Sets how the interface counts from now on. A change restarts the comparison.
    pub fn set_counting(&mut self, counting: Counting, now_ms: i64) {
        for unseen in &mut self.unseen {
            unseen.set_counting(counting, now_ms);
        }
    }

    /// True if, in one direction, the interface has carried frames since the last reading and the
    /// hooks have seen none. The hooks may be gone.
    pub fn is_suspicious(&self, reading: &Reading) -> bool {
        (0..2).any(|side| {
            reading.carried[side].count > self.last.carried[side].count
                && reading.seen[side].frames == self.last.seen[side].frames
        })
    }

    /// Counters and ledger of the last reading, by direction.
    pub fn balance(&self) -> [Balance; 2] {
        self.last.balance()
    }

    /// Frames by the interface's own counters since the first reading, by direction.
    pub fn carried(&self) -> [Frames; 2] {
        std::array::from_fn(|side| self.last.carried[side].since(self.first.carried[side]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Counting = Counting { rebase: true, card: false, ethernet: true };

    fn frames(count: u64) -> Frames {
        Frames { count, bytes: count * 114 }
    }

    fn reading(carried: u64, seen: u64) -> Reading {
        Reading {
            carried: [frames(0), frames(carried)],
            seen: [Seen::default(), Seen { frames: frames(seen), wire: seen }],
        }
    }

    #[test]
    fn a_busy_interface_is_read_every_few_seconds_and_a_quiet_one_once_a_window() {
        let mut it = Comparison::new(PAIR, 0, reading(0, 0));
        assert!(it.is_due(500, 0, false), "the base of what follows");
        it.compare(500, reading(0, 0));
        assert!(!it.is_due(30_000, 0, true), "read in this window");
        assert!(!it.is_due(80_000, 60_000, false));
        assert!(it.is_due(119_000, 60_000, true));
        it.compare(119_000, reading(0, 0));
        assert!(!it.is_due(119_500, 60_000, true));
        it.note(120_000, reading(0, 3).seen);
        assert!(!it.is_due(123_000, 120_000, false));
        assert!(it.is_due(124_000, 120_000, false));
    }

    #[test]
    fn what_only_the_interface_counted_is_a_loss_and_a_reason_to_look() {
        let mut it = Comparison::new(PAIR, 0, reading(10, 4));
        assert_eq!(it.compare(1000, reading(10, 4)), [Traffic::NONE; 2]);
        let next = reading(15, 4);
        assert!(it.is_suspicious(&next) && !it.is_suspicious(&reading(15, 5)));
        assert_eq!(it.compare(60_000, next), [Traffic::NONE, Traffic { packets: 5, bytes: 500 }]);
        assert_eq!(it.carried(), [frames(0), frames(5)]);
        assert_eq!(it.balance()[1], Balance { carried: frames(15), seen: frames(4) });
        assert!(it.is_pending(), "ingress is decided later");
        assert_eq!(it.settle(63_000, next.seen), [Traffic::NONE; 2]);
        assert!(!it.is_pending());
    }
}
