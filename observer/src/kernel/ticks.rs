//! Conversion of the kernel's timer ticks, which time packets, to UNIX time.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::time::{ClockId, clock_getres, clock_gettime};
use observer_ebpf::abi::names;

use super::{
    KernelError, Programs,
    syscall::{PROG_TEST_RUN, bpf},
};

/// Conversion of the 32-bit times in the cache to UNIX time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ticks {
    /// One instant on both clocks.
    Kernel {
        /// Ticks modulo 2^32.
        now: u32,
        /// Nanoseconds since the UNIX epoch.
        unix_ns: i64,
        /// Length of a tick in nanoseconds.
        length_ns: i64,
    },
    /// Times are milliseconds modulo 2^32, which the caller completes.
    Replay,
}

impl Ticks {
    /// UNIX milliseconds of a time in the cache.
    pub(super) fn unix_ms(self, tick: u32) -> i64 {
        match self {
            Self::Kernel { now, unix_ns, length_ns } => {
                // A packet may arrive after the clock was read and before the cache was: the
                // difference is signed.
                let behind = now.wrapping_sub(tick) as i32;
                (unix_ns - i64::from(behind) * length_ns).div_euclid(1_000_000)
            }
            Self::Replay => tick.into(),
        }
    }
}

/// Reader of the kernel's tick count. Only eBPF programs can read it, so the reader runs one.
#[derive(Debug)]
pub(super) struct TickReader {
    program: OwnedFd,
    length_ns: i64,
}

impl TickReader {
    /// Creates a reader from the program in one load of the object.
    pub(super) fn new(programs: &mut Programs) -> Result<Self, KernelError> {
        let name = names::READ_TICKS;
        let program = programs.classifier(name)?;
        let failed = |action| move |source| KernelError::Program { action, program: name, source };
        program.load().map_err(failed("loading"))?;
        let program = program.fd().map_err(failed("loading"))?.as_fd().try_clone_to_owned();
        let program =
            program.map_err(|error| KernelError::call("fcntl(F_DUPFD_CLOEXEC)", error))?;
        Ok(Self { program, length_ns: length_ns() })
    }

    /// Reads both clocks.
    ///
    /// The wall clock is the coarse one, which advances with the ticks, so all packets of one tick
    /// have the same time. A step of the wall clock changes only later readings.
    pub(super) fn read(&self) -> Result<Ticks, KernelError> {
        loop {
            let unix_ns = unix_ns();
            let now = self.count()?;
            // About one reading in a hundred spans a tick.
            if unix_ns == self::unix_ns() {
                return Ok(Ticks::Kernel { now, unix_ns, length_ns: self.length_ns });
            }
        }
    }

    /// Tick count modulo 2^32.
    fn count(&self) -> Result<u32, KernelError> {
        // Shortest frame that the kernel accepts.
        let frame = [0_u8; 14];
        let mut attributes = TestRun {
            prog_fd: self.program.as_raw_fd() as u32,
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes, "BPF_PROG_TEST_RUN")?;
        Ok(attributes.retval)
    }
}

/// Beginning of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// Number of ticks for which Linux waits for the fragments of an IPv4 packet (`IP_FRAG_TIME`),
/// given the length of a tick. It waits twice as long for those of IPv6 (`IPV6_FRAG_TIMEOUT`).
pub(super) fn fragment_ticks(length_ns: i64) -> u32 {
    const TIMEOUT_NS: i64 = 30_000_000_000;
    // A tick takes 1 to 10 ms, so the result fits in 32 bits.
    (TIMEOUT_NS / length_ns.max(1)) as u32
}

/// Length of a tick in nanoseconds.
pub(super) fn length_ns() -> i64 {
    // The resolution of the coarse clocks is the kernel's `TICK_NSEC`. The call cannot fail on
    // Linux.
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(1_000_000, |tick| tick.tv_nsec())
}

/// Nanoseconds since the UNIX epoch on the coarse clock.
fn unix_ns() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME_COARSE);
    now.map_or(0, |now| now.tv_sec() * 1_000_000_000 + now.tv_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_around_the_reading_are_completed_whatever_wraps() {
        for now in [0, 1, 5, u32::MAX, 1 << 31] {
            let ticks = Ticks::Kernel { now, unix_ns: 1_000_000_000_000, length_ns: 4_000_000 };
            assert_eq!(ticks.unix_ms(now), 1_000_000);
            assert_eq!(ticks.unix_ms(now.wrapping_sub(250)), 999_000);
            assert_eq!(ticks.unix_ms(now.wrapping_add(1)), 1_000_004);
        }
    }

    #[test]
    fn first_fragments_are_remembered_as_long_as_the_kernel_waits_for_the_others() {
        for (hz, ticks) in [(100, 3000), (250, 7500), (300, 9000), (1000, 30_000)] {
            assert_eq!(fragment_ticks(1_000_000_000 / hz), ticks, "{hz} Hz");
        }
    }
}
