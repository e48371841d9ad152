//! The clocks: `CLOCK_MONOTONIC`, by which the programs stamp packets, and UNIX time, by which records are written.

use nix::time::{ClockId, clock_gettime};

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub monotonic_ns: u64,
    /// Milliseconds since the UNIX epoch.
    pub unix_ms: i64,
}

/// Both clocks at (nearly) one moment.
///
/// The offset is taken anew each time, so a step of the wall clock changes later readings only.
pub fn now() -> Now {
    Now {
        monotonic_ns: read(ClockId::CLOCK_MONOTONIC),
        unix_ms: (read(ClockId::CLOCK_REALTIME) / 1_000_000) as i64,
    }
}

fn read(clock: ClockId) -> u64 {
    // The two clocks cannot fail on Linux.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
