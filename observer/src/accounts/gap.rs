//! A gap: the programs were not on the interface for a while, because somebody had removed them.

use super::Frames;

/// Both accounts of one direction at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// By the interface's own counters.
    pub carried: Frames,
    /// By the ledger: socket buffers.
    pub seen: Frames,
}

/// Readings of one direction around a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The last reading before the programs were missed.
    pub before: Balance,
    /// The interface's own counters when they were missed.
    pub noticed: Frames,
    /// Its own counters when they were about to be put there again.
    pub ending: Frames,
    /// A reading when they were there again.
    pub after: Balance,
}

impl Gap {
    /// Frames that passed while the programs were not there: those that the interface counted since
    /// the last reading, less those that the programs saw.
    ///
    /// Where the interface counts as the hook does, this is exact. Where it does not (frames that
    /// are merged on their way to the hook, or segmented behind it), the difference says nothing,
    /// and two bounds hold: it is no less than passed between noticing and the end, and no more
    /// than passed since the last reading.
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
        // Ten were seen after the last reading and before the removal, three again afterwards.
        let gap = Gap {
            before: balance(100, 40),
            noticed: frames(115),
            ending: frames(120),
            after: balance(123, 53),
        };
        assert_eq!(gap.frames(), frames(10));
        // One direction was left alone.
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
        // Merged on the way to the hook: thirty frames of the interface were three to the hook.
        let merged = Gap {
            before: balance(100, 40),
            noticed: frames(130),
            ending: frames(130),
            after: balance(130, 43),
        };
        assert_eq!(merged.frames(), frames(27), "no more than passed since the last reading");
        // More seen than counted, as where the interface drops behind the hook.
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
