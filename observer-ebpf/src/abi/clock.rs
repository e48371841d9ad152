/// Sources of packet times: values of the constant [`CLOCK`](super::names::CLOCK).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The kernel's timer ticks, of 1 to 10 ms: `bpf_jiffies64` (Linux 5.6).
    Ticks = 0,
    /// [`Replay`](super::Replay), which also gives the frame's length.
    Replay = 1,
}
