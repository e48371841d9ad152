/// Where the times of packets come from: the constant [`CLOCK`](super::names::CLOCK) of a load.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The kernel's timer ticks, of 1 to 10 ms: `bpf_jiffies64` (Linux 5.6).
    Ticks = 0,
    /// [`Replay`](super::Replay), which also says how long each frame was.
    Replay = 1,
}
