/// The value of the label `reason` where a window held as many flows as it may.
pub(super) const WINDOW_FULL: &str = "window_full";
/// The value of the label `reason` where a new interface carried frames before the programs were on it.
pub(super) const BEFORE_ATTACH: &str = "before_attach";
