/// Where the times of packets come from: the constant [`CLOCK`](super::names::CLOCK) of a load.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `bpf_ktime_get_ns`.
    Precise = 0,
    /// `bpf_ktime_get_coarse_ns` (Linux 5.11), a tenth of the cost.
    Coarse = 1,
    /// [`Replay`](super::Replay), which also says how long each frame was.
    Replay = 2,
}
