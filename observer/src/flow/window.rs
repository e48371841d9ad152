/// A jump longer than this, in seconds, is treated as a clock change.
const CLOCK_SET: i64 = 600;

/// Time span over which flows are summed. Aligned to the UNIX epoch, except that the first window
/// begins when the daemon starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Start in UNIX seconds.
    pub start: i64,
    /// End in UNIX seconds. The next window begins here.
    pub end: i64,
}

impl Window {
    /// Window that begins at this time and ends at the next multiple of `seconds`.
    pub fn holding(unix_ms: i64, seconds: u32) -> Self {
        let now = unix_ms.div_euclid(1000);
        let aligned = now.div_euclid(i64::from(seconds)) * i64::from(seconds);
        Self { start: now, end: aligned + i64::from(seconds) }
    }

    /// Window that follows at this time. It begins at the end of this window, so that there is no
    /// gap between them, and is longer if whole windows have passed meanwhile. If the clock was
    /// set, it begins at this time instead.
    #[must_use]
    pub fn next(&self, unix_ms: i64, seconds: u32) -> Self {
        let next = Self::holding(unix_ms, seconds);
        if (0..=CLOCK_SET).contains(&(next.start - self.end)) {
            Self { start: self.end, ..next }
        } else {
            next
        }
    }

    /// True if the window is over at this time, or the clock was set back to before its start.
    pub fn is_over(&self, unix_ms: i64) -> bool {
        let now = unix_ms.div_euclid(1000);
        now >= self.end || now < self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_aligned_and_follow_each_other() {
        let first = Window::holding(1_700_000_017_500, 60);
        assert_eq!(first, Window { start: 1_700_000_017, end: 1_700_000_040 });
        assert!(!first.is_over(1_700_000_039_999));
        assert!(first.is_over(1_700_000_040_000));
        for late in [0, 1, 59] {
            let next = first.next(1_700_000_040_000 + late * 1000, 60);
            assert_eq!(next, Window { start: first.end, end: first.end + 60 });
        }
        let long = first.next(1_700_000_040_000 + 61_000, 60);
        assert_eq!(long, Window { start: first.end, end: first.end + 120 });
    }

    #[test]
    fn a_clock_set_forward_makes_no_window_of_the_time_that_never_was() {
        let first = Window::holding(1_700_000_000_000, 10);
        let later = Window::holding(1_800_000_000_000, 10);
        assert_eq!(first.next(1_800_000_000_000, 10), later);
    }

    #[test]
    fn a_clock_set_back_ends_the_window() {
        let window = Window::holding(1_700_000_000_000, 10);
        assert!(window.is_over(1_699_996_400_000));
        let next = window.next(1_699_996_400_000, 10);
        assert!(next.start < next.end);
    }
}
