//! UNIX time, used in records.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the UNIX epoch.
pub fn unix_ms() -> i64 {
    // Reading this clock cannot fail on Linux.
    clock_gettime(ClockId::CLOCK_REALTIME)
        .map_or(0, |now| now.tv_sec() * 1000 + now.tv_nsec() / 1_000_000)
}
