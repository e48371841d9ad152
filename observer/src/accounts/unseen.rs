//! Frames that an interface carried and its hooks never saw: sent past the queueing discipline
//! (`PACKET_QDISC_BYPASS`, `AF_XDP`), or taken by XDP before the hook.
//!
//! Only the part that is certain is reported. Counters and ledger cannot be read at the same time,
//! and they count differently. Depending on its driver, the interface counts a super-packet as one
//! frame or as its segments. Frames are in transit between the counter and the hook while both are
//! read. So the interface's count is compared with the most that it can have counted for the frames
//! that were seen ([`Seen::wire`]), and the ledger is taken from a time at which all frames in
//! transit have arrived:
//!
//! - Frames that the interface has counted by time t are seen by t + [`LAG_MS`] (ingress), or were
//!   seen before they were counted (egress). Frames counted beyond these were never seen.
//! - Frames that were seen by t - [`LAG_MS`] are counted by t, or never. They are the base of the
//!   next comparison. This holds if nothing delays frames for longer ([`Counting::rebase`]).
//!
//! Each comparison covers a time span of its own. The spans do not overlap, so their sum is certain
//! too.

use std::collections::VecDeque;

use observer_ebpf::abi::Direction;

use super::{Frames, Seen};
use crate::flow::Traffic;

/// Longest time in milliseconds that a frame is in transit between the interface's counter and the
/// hook, if [`Counting::rebase`] is true.
pub const LAG_MS: i64 = 2000;
/// Time in milliseconds within which drivers of network cards update their counters.
const STALE_MS: i64 = 10_000;
/// Largest size in bytes of the headers that segmentation repeats, including link header and
/// tunnels.
const MOST_HEADERS: i64 = 256;
/// Largest number of bytes per frame that a network card may count in addition: padding, tags and
/// check sequences.
const MOST_FRAMING: i64 = 64;

/// The way in which an interface counts frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counting {
    /// True if the kernel counts each frame as it passes, and no queue lies between the hook and
    /// the counter.
    ///
    /// False for network cards and behind a queueing discipline. The base of the first comparison
    /// is then kept, and each frame that the hook counts in excess of the interface (super-packets,
    /// frames dropped after the hook) hides one frame that was never seen.
    pub rebase: bool,
    /// True if the device is a network card.
    pub card: bool,
    /// True if frames begin with an Ethernet header.
    pub ethernet: bool,
}

/// Signed difference: the interface's count minus that of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Difference {
    frames: i64,
    bytes: i64,
}

/// Comparison for one direction of an interface.
#[derive(Clone, Debug)]
pub struct Unseen {
    direction: Direction,
    counting: Counting,
    /// Time in milliseconds at which the hook began to count.
    since_ms: i64,
    /// Ledger readings by time, oldest first. Each is valid until the time of the next one.
    history: VecDeque<(i64, Seen)>,
    first: Seen,
    base: Option<Difference>,
    /// Unseen traffic that was reported since the base was set.
    reported: Difference,
    last: Option<Frames>,
    /// A reading of the interface's counters that waits until its frames must have been seen.
    pending: Option<(i64, Frames, Seen)>,
}

impl Unseen {
    /// Begins a comparison when the hook begins to count, with the ledger at that time.
    pub fn new(direction: Direction, counting: Counting, now_ms: i64, seen: Seen) -> Self {
        Self {
            direction,
            counting,
            since_ms: now_ms,
            history: VecDeque::from([(now_ms, seen)]),
            first: seen,
            base: None,
            reported: Difference::default(),
            last: None,
            pending: None,
        }
    }

    /// Sets how the interface counts from now on. A change restarts the comparison.
    pub fn set_counting(&mut self, counting: Counting, now_ms: i64) {
        if counting != self.counting {
            let seen = self.history.back().map_or(self.first, |(_, seen)| *seen);
            *self = Self::new(self.direction, counting, now_ms, seen);
        }
    }

    /// Records the current ledger. Call at least every [`LAG_MS`] while it grows.
    pub fn note(&mut self, now_ms: i64, seen: Seen) {
        if self.history.back().is_none_or(|(_, last)| *last != seen) {
            self.history.push_back((now_ms, seen));
        }
        // The latest entry before the limit is kept.
        while self.history.get(1).is_some_and(|(time, _)| *time <= now_ms - 2 * LAG_MS) {
            self.history.pop_front();
        }
    }

    /// True if a reading waits for [`settle`](Self::settle).
    pub const fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Compares the interface's own counters with the ledger that was read just after them. Returns
    /// unseen traffic that is certain and not reported yet.
    pub fn compare(&mut self, now_ms: i64, carried: Frames, seen: Seen) -> Traffic {
        self.note(now_ms, seen);
        let is_less = |last: Frames| carried.count < last.count || carried.bytes < last.bytes;
        if self.last.replace(carried).is_some_and(is_less) {
            // The counters were reset.
            *self =
                Self { last: self.last, ..Self::new(self.direction, self.counting, now_ms, seen) };
            return Traffic::NONE;
        }
        if self.counting.card && now_ms - self.since_ms < STALE_MS {
            return Traffic::NONE;
        }
        let arrived = if self.counting.rebase { self.at(now_ms - LAG_MS) } else { self.first };
        match self.direction {
            Direction::Egress => self.step(carried, arrived, seen),
            // A reading that is already pending is earlier, and is decided first.
            Direction::Ingress => {
                if self.pending.is_none() {
                    self.pending = Some((now_ms, carried, arrived));
                }
                Traffic::NONE
            }
        }
    }

    /// Decides the pending reading, if it has waited long enough. `seen` is the current ledger.
    /// Returns unseen traffic as [`compare`](Self::compare) does.
    pub fn settle(&mut self, now_ms: i64, seen: Seen) -> Traffic {
        self.note(now_ms, seen);
        match self.pending {
            Some((time, carried, arrived)) if now_ms - time >= LAG_MS => {
                self.pending = None;
                self.step(carried, arrived, seen)
            }
            _ => Traffic::NONE,
        }
    }

    /// The ledger at a time.
    fn at(&self, time_ms: i64) -> Seen {
        let until = self.history.iter().take_while(|(time, _)| *time <= time_ms).last();
        until.map_or(self.first, |(_, seen)| *seen)
    }

    /// Makes one comparison. `arrived` was seen early enough that the interface has counted it.
    /// `seen` is the most that the interface can have counted.
    fn step(&mut self, carried: Frames, arrived: Seen, seen: Seen) -> Traffic {
        let (beyond, base) = (self.difference(carried, seen), self.difference(carried, arrived));
        let Some(before) = self.base else {
            self.base = Some(base);
            return Traffic::NONE;
        };
        let frames = beyond.frames - before.frames - self.reported.frames;
        if frames > 0 {
            let bytes = (beyond.bytes - before.bytes - self.reported.bytes).max(0);
            self.reported.frames += frames;
            self.reported.bytes += bytes;
            return Frames { count: frames as u64, bytes: bytes as u64 }
                .as_loss(self.counting.ethernet);
        }
        if self.counting.rebase && base.frames < before.frames + self.reported.frames {
            (self.base, self.reported) = (Some(base), Difference::default());
        }
        Traffic::NONE
    }

    /// The interface's count minus the most that it can have counted for `seen`.
    fn difference(&self, carried: Frames, seen: Seen) -> Difference {
        let repeated = seen.wire.saturating_sub(seen.frames.count) as i64 * MOST_HEADERS;
        let framing = if self.counting.card { seen.wire as i64 * MOST_FRAMING } else { 0 };
        Difference {
            frames: carried.count as i64 - seen.wire as i64,
            bytes: carried.bytes as i64 - seen.frames.bytes as i64 - repeated - framing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Counting = Counting { rebase: true, card: false, ethernet: true };
    const QUEUED: Counting = Counting { rebase: false, ..PAIR };
    const CARD: Counting = Counting { card: true, ..QUEUED };

    fn frames(count: u64) -> Frames {
        Frames { count, bytes: count * 114 }
    }

    fn seen(count: u64) -> Seen {
        Seen { frames: frames(count), wire: count }
    }

    fn loss(packets: u64) -> Traffic {
        Traffic { packets, bytes: packets * 100 }
    }

    /// Model of an interface that is compared each second, and some of whose frames are never seen.
    #[derive(Debug)]
    struct Model {
        random: fastrand::Rng,
        /// Sums of seen frames at the end of each second: by the interface's counters and by the
        /// ledger.
        counted: Vec<Frames>,
        ledgers: Vec<Seen>,
        unseen: Vec<Frames>,
        /// Delay in seconds between the two accounts.
        delay: usize,
    }

    impl Model {
        fn new(seed: u64, delay: usize) -> Self {
            let random = fastrand::Rng::with_seed(seed);
            let (counted, ledgers) = (vec![Frames::default()], vec![Seen::default()]);
            Self { random, counted, ledgers, unseen: vec![Frames::default()], delay }
        }

        fn last<T: Copy>(all: &[T]) -> T {
            *all.last().unwrap()
        }

        /// Adds a second of traffic: unseen frames, and super-packets that the interface counts as
        /// one frame, as several, or not at all.
        fn second(&mut self) {
            let (mut counted, mut ledger) = (Self::last(&self.counted), Self::last(&self.ledgers));
            let mut unseen = Self::last(&self.unseen);
            let (quiet, hidden) = (self.random.bool(), self.random.u8(..) < 80);
            for _ in 0..if quiet { 0 } else { self.random.u64(..50) } {
                let segments = if self.random.bool() { 1 } else { self.random.u64(1..45) };
                let bytes = 66 + segments * self.random.u64(20..1448);
                ledger.frames.count += 1;
                ledger.frames.bytes += bytes;
                ledger.wire += segments;
                let (count, repeated) = match self.random.u8(..4) {
                    0 => continue,
                    1 => (segments, (segments - 1) * 66),
                    2 => (self.random.u64(1..=segments), 0),
                    _ => (1, 0),
                };
                counted.count += count;
                counted.bytes += bytes + repeated - if self.random.bool() { 14 } else { 0 };
            }
            for _ in 0..if hidden { self.random.u64(..20) } else { 0 } {
                unseen.count += 1;
                unseen.bytes += self.random.u64(42..1514);
            }
            self.counted.push(counted);
            self.ledgers.push(ledger);
            self.unseen.push(unseen);
        }

        /// The interface's counters and the ledger at the end of a second.
        fn read(&self, direction: Direction, second: usize) -> (Frames, Seen) {
            let late = second.saturating_sub(self.delay);
            let (counted, ledger) = match direction {
                Direction::Ingress => (second, late),
                Direction::Egress => (late, second),
            };
            let (counted, unseen) = (self.counted[counted], self.unseen[second]);
            let carried =
                Frames { count: counted.count + unseen.count, bytes: counted.bytes + unseen.bytes };
            (carried, self.ledgers[ledger])
        }
    }

    #[test]
    fn no_more_is_ever_told_than_was_unseen() {
        for seed in 0..400 {
            for (direction, counting) in Direction::ALL
                .into_iter()
                .flat_map(|direction| [PAIR, QUEUED, CARD].map(|it| (direction, it)))
            {
                // A queue may delay frames for any time.
                let delay =
                    (seed % 3) as usize + if counting.rebase { 0 } else { (seed % 20) as usize };
                let delay = if direction == Direction::Ingress { delay.min(2) } else { delay };
                let mut model = Model::new(seed, delay);
                let mut unseen = Unseen::new(direction, counting, 0, Seen::default());
                let mut reported = Frames::default();
                for second in 1..120 {
                    model.second();
                    let (carried, seen) = model.read(direction, second);
                    let now = second as i64 * 1000;
                    let mut add = |loss: Traffic| {
                        reported.count += loss.packets;
                        reported.bytes += loss.bytes + loss.packets * 14;
                    };
                    add(unseen.settle(now, seen));
                    if model.random.bool() {
                        add(unseen.compare(now, carried, seen));
                    }
                    let truly = Model::last(&model.unseen);
                    assert!(
                        reported.count <= truly.count,
                        "{direction:?} {counting:?} {seed}: {reported:?} of {truly:?}"
                    );
                    // A frame shorter than a link header is counted as if it had one.
                    assert!(
                        reported.bytes <= truly.bytes + reported.count * 14,
                        "{seed}: {reported:?} of {truly:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_passes_a_quiet_interface_unseen_is_told_to_the_last_byte() {
        let mut unseen = Unseen::new(Direction::Egress, PAIR, 0, seen(7));
        assert_eq!(unseen.compare(1000, frames(100), seen(7)), loss(0));
        assert_eq!(unseen.compare(60_000, frames(150), seen(7)), loss(50));
        assert_eq!(unseen.compare(61_000, frames(150), seen(7)), loss(0));
        assert_eq!(unseen.compare(62_000, frames(151), seen(7)), loss(1));

        let mut unseen = Unseen::new(Direction::Ingress, PAIR, 0, seen(7));
        for (now, carried, reported) in
            [(0, 100, 0), (10_000, 150, 0), (20_000, 150, 50), (30_000, 160, 0)]
        {
            let settled = unseen.settle(now, seen(7));
            assert_eq!(
                (settled, unseen.compare(now, frames(carried), seen(7))),
                (loss(reported), loss(0))
            );
        }
        assert!(unseen.is_pending());
        assert_eq!(unseen.settle(31_000, seen(7)), loss(0), "they may still be on their way");
        assert_eq!(unseen.settle(32_000, seen(17)), loss(0), "they were");
    }

    #[test]
    fn traffic_beside_hides_no_more_than_what_was_under_way() {
        let mut unseen = Unseen::new(Direction::Egress, PAIR, 0, seen(0));
        let mut reported = 0;
        // Each second, a hundred frames are seen and ten are not.
        for second in 1..=60 {
            let carried = frames(second * 110);
            reported += unseen.compare(second as i64 * 1000, carried, seen(second * 100)).packets;
        }
        assert!((300..=590).contains(&reported), "{reported} of 590");
    }

    #[test]
    fn super_packets_and_drops_of_before_hide_nothing_on_a_pair_and_all_on_a_queue() {
        for (counting, expected) in [(PAIR, 5), (QUEUED, 0)] {
            let mut unseen = Unseen::new(Direction::Egress, counting, 0, Seen::default());
            let bulk = Seen { frames: frames(10), wire: 400 };
            for (now, carried) in [(1000, 0), (2000, 8), (9000, 8)] {
                assert_eq!(
                    unseen.compare(
                        now,
                        frames(carried),
                        if now == 1000 { Seen::default() } else { bulk }
                    ),
                    loss(0)
                );
            }
            assert_eq!(unseen.compare(20_000, frames(13), bulk).packets, expected, "{counting:?}");
        }
    }

    #[test]
    fn counters_that_begin_anew_begin_a_new_comparison() {
        let mut unseen = Unseen::new(Direction::Egress, PAIR, 0, seen(0));
        assert_eq!(unseen.compare(1000, frames(1000), seen(0)), loss(0));
        assert_eq!(unseen.compare(9000, frames(3), seen(0)), loss(0));
        assert_eq!(unseen.compare(19_000, frames(3), seen(0)), loss(0));
        assert_eq!(unseen.compare(29_000, frames(5), seen(0)), loss(2));
    }

    #[test]
    fn a_network_card_is_compared_once_its_counters_are_up_to_date() {
        let mut unseen = Unseen::new(Direction::Egress, CARD, 0, seen(0));
        // Frames from before the hook was attached appear in the counters late.
        assert_eq!(unseen.compare(1000, frames(0), seen(0)), loss(0));
        assert_eq!(unseen.compare(3000, frames(500), seen(0)), loss(0));
        assert_eq!(unseen.compare(11_000, frames(500), seen(0)), loss(0));
        assert_eq!(unseen.compare(12_000, frames(501), seen(0)).packets, 1);
    }
}
