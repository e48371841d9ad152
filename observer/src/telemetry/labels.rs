/// The value of the label `reason` where a window held as many flows as it may.
pub(super) const WINDOW_FULL: &str = "window_full";
