//! Gaps in counting while the programs were removed from an interface.

use super::Frames;

/// Counters and ledger of one direction at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The interface's own counters.
    pub carried: Frames,
    /// The ledger, in socket buffers.
    pub seen: Frames,
}

/// Readings of one direction around a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Last reading before the removal was noticed.
    pub before: Balance,
    /// The interface's own counters when the removal was noticed.
    pub noticed: Frames,
    /// The interface's own counters just before the programs were attached again.
    pub ending: Frames,
    /// Reading after the programs were attached again.
    pub after: Balance,
}

impl Gap {
    /// Frames that passed uncounted: those that the interface counted since the last reading, minus
    /// those that the programs saw.
    ///
    /// This is exact if the interface counts as the hook does. Otherwise (frames merged before the
    /// hook, or segmented after it) the difference is unusable, and two bounds apply. The result is
    /// at least the frames between noticing the removal and the end of the gap, and at most the
    /// frames since the last reading.
    pub fn frames(&self) -> Frames {
        let carried = self.after.carried.since(self.before.carried);
        let unseen = carried.since(self.after.seen.since(self.before.seen));
        let least = self.ending.since(self.noticed);
        Frames {
            count: unseen.count.clamp(least.count, carried.count.max(least.count)),
            bytes: unseen.bytes.clamp(least.bytes, carried.bytes.max(least.bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: u64) -> Frames {
        Frames { count, bytes: count * 100 }
    }

    fn balance(carried: u64, seen: u64) -> Balance {
        Balance { carried: frames(carried), seen: frames(seen) }
    }

    #[test]
    fn what_passed_between_is_the_difference_of_both_accounts() {
        // Ten frames were seen between the last reading and the removal, and three afterwards.
        let gap = Gap {
            before: balance(100, 40),
            noticed: frames(115),
            ending: frames(120),
            after: balance(123, 53),
        };
        assert_eq!(gap.frames(), frames(10));
        // The programs of one direction were not removed.
        let gap = Gap {
            before: balance(100, 40),
            noticed: frames(115),
            ending: frames(115),
            after: balance(123, 63),
        };
        assert_eq!(gap.frames(), frames(0));
    }

    #[test]
    fn where_the_interface_counts_otherwise_the_bounds_hold() {
        // Frames were merged before the hook: 30 frames of the interface were 3 for the hook.
        let merged = Gap {
            before: balance(100, 40),
            noticed: frames(130),
            ending: frames(130),
            after: balance(130, 43),
        };
        assert_eq!(merged.frames(), frames(27), "no more than passed since the last reading");
        // The hook saw more frames than the interface counted: the interface dropped some after the
        // hook.
        let dropped = Gap {
            before: balance(100, 40),
            noticed: frames(101),
            ending: frames(109),
            after: balance(110, 90),
        };
        assert_eq!(dropped.frames(), frames(8));
        let reset = Gap {
            before: balance(100, 40),
            noticed: frames(1),
            ending: frames(5),
            after: balance(5, 40),
        };
        assert_eq!(reset.frames(), frames(4), "counters that began anew");
    }
}
