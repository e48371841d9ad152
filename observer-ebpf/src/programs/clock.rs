//! Packet times: the kernel's timer ticks.
//!
//! The JIT compiler makes it a load from memory (kernel commit 5576b991e9c1, Linux 5.6). The coarse
//! clock has the same resolution, but needs a call of 12 ns, which was the most expensive part of
//! the packet path.

use aya_ebpf::{helpers::bpf_jiffies64, macros::classifier, programs::TcContext};
use observer_ebpf::abi::Clock;

use super::{maps::REPLAY, settings::clock_is};

/// The time, in ticks.
#[inline(always)]
pub(super) fn now() -> u32 {
    if clock_is(Clock::Replay) {
        return REPLAY.get(0).map_or(0, |replay| replay.now);
    }
    // SAFETY: a helper without arguments.
    unsafe { bpf_jiffies64() as u32 }
}

/// Returns the time, so that the daemon can convert ticks to UNIX time.
#[classifier]
pub(crate) fn read_ticks(_ctx: TcContext) -> i32 {
    now() as i32
}
