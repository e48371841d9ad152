//! Durations of the demo.

use std::time::Duration;

/// Length of the daemon's aggregation window, in seconds.
pub(super) const WINDOW: u32 = 5;
/// Upper bound of the traffic's duration: a window with this much time left takes all of the
/// traffic.
pub(super) const TRAFFIC: Duration = Duration::from_millis(1500);
/// Longest duration of one act on a busy machine before it counts as failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
