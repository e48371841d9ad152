use crate::flow::Room;

/// Limits of the accounts of a host.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Length of a window in seconds.
    pub window_seconds: u32,
    /// Number of flows in a window beyond which an interface only gets its guaranteed share. A
    /// window may hold up to twice as many.
    pub max_flows: usize,
    /// Memory for the flows of all windows that are open or not written yet.
    pub room: Room,
    /// Highest interface number.
    pub interfaces: u16,
    /// End of the last window that an earlier run recorded, in UNIX seconds. Gaps begin there.
    pub recorded_until: Option<i64>,
}
