//! Values of the labels `stage` and `reason` that have no enum of their own.

/// Stage: the interface carried the packets, and its programs did not count them.
pub(super) const ATTACH: &str = "attach";
/// Stage: the programs could not store a packet.
pub(super) const KERNEL: &str = "kernel";
/// Stage: summing flows over a window.
pub(super) const WINDOW: &str = "window";
/// Stage: writing records.
pub(super) const SINK: &str = "sink";
/// Reason: the window holds the maximum number of flows.
pub(super) const WINDOW_FULL: &str = "window_full";
