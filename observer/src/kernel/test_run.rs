//! Running programs on captured packets, by `BPF_PROG_TEST_RUN`.

use std::io;

use aya::programs::{ProgramError, TestRun, TestRunOptions};
use observer_ebpf::abi::{Clock, Direction, Ledger, Replay, names};

use super::{
    Drain, KernelError, Loader, Programs, Sizes, bpffs::PrivatePins, drain::Side,
    loader::LoaderOptions, mapping::Mapping, preflight::possible_cpus,
};
use crate::flow::{Delta, InterfaceNumber};

/// Maximum bytes of a frame passed to the kernel. The kernel accepts at most a page minus its own
/// structures: 3,264 bytes with the largest configurable `MAX_SKB_FRAGS`.
const MAX_DATA: usize = 3072;
/// Budget for maps in bytes, unless this many CPUs need more.
const MEMORY: u64 = 32 << 20;

/// A captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// Captured bytes, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// Original length in bytes.
    pub len: u32,
    /// Capture time in UNIX milliseconds.
    pub unix_ms: i64,
    /// Payload bytes per segment of a super-packet; 0 for an ordinary packet.
    pub segment: u32,
}

/// Result of running a program on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The program ran.
    Yes,
    /// The kernel refused the frame: it is shorter than its headers require.
    TooShort,
}

/// Programs with their own maps, for all interfaces of a capture.
#[derive(Debug)]
pub struct TestRuns {
    next: Mapping<Replay>,
    drain: Drain,
    programs: Programs,
    sizes: Sizes,
    _pins: PrivatePins,
}

impl TestRuns {
    /// Loads the programs and creates their maps.
    pub fn new() -> Result<Self, KernelError> {
        let pins = PrivatePins::new()?;
        let cpus = possible_cpus();
        let sizes = match Sizes::from_budget(MEMORY, cpus) {
            Err(KernelError::Memory { least, .. }) => Sizes::from_budget(least, cpus)?,
            sizes => sizes?,
        };
        let options = LoaderOptions { sizes, log_level: 0, clock: Clock::Replay };
        let mut programs = Loader::new(options, pins.path())?.load(1, true)?;
        let drain = Drain::of_replay(&mut programs, sizes)?;
        let next = Mapping::of(&mut programs, names::REPLAY, 1)?;
        Ok(Self { next, drain, programs, sizes, _pins: pins })
    }

    /// Maximum number of interfaces.
    pub fn max_interfaces(&self) -> u16 {
        self.sizes.interfaces - 1
    }

    /// Runs the program for one direction of an interface on a frame.
    pub fn run(
        &mut self,
        interface: InterfaceNumber,
        direction: Direction,
        frame: &Captured<'_>,
    ) -> Result<Taken, KernelError> {
        let next = Replay {
            now: frame.unix_ms as u32,
            frame_len: frame.len,
            interface: interface.get(),
            ..Replay::default()
        };
        self.next.write(0, next);
        let context = (frame.segment != 0).then(|| context(frame.segment));
        let options = TestRunOptions {
            data_in: Some(&frame.bytes[..frame.bytes.len().min(MAX_DATA)]),
            ctx_in: context.as_ref().map(<[u8; CONTEXT]>::as_slice),
            ..TestRunOptions::new()
        };
        match self.programs.get_mut(direction)?.test_run(options) {
            Ok(_) => Ok(Taken::Yes),
            Err(ProgramError::SyscallError(error))
                if error.io_error.raw_os_error() == Some(libc::EINVAL) =>
            {
                Ok(Taken::TooShort)
            }
            Err(error) => Err(KernelError::call("BPF_PROG_TEST_RUN", io::Error::other(error))),
        }
    }

    /// Passes all counted flows to `take`. Times are milliseconds modulo 2^32.
    pub fn drain(&mut self, mut take: impl FnMut(Delta)) -> Result<(), KernelError> {
        self.drain.drain(|_: Side, delta| take(delta)).map(drop)
    }

    /// Passes the entries of the spill ring to `take`. A run adds at most one entry, and the ring
    /// must not fill up.
    pub fn read_ring(&mut self, mut take: impl FnMut(Delta)) {
        self.drain.read_ring(|_: Side, delta| take(delta));
        self.drain.clear();
    }

    /// Number of runs after which the spill ring must be read.
    pub fn ring_entries(&self) -> u32 {
        // An entry has a header of 8 bytes. From three quarters on, the programs no longer spill
        // every entry.
        self.sizes.ring_bytes / (size_of::<observer_ebpf::abi::FlowSlot>() as u32 + 8) / 2
    }

    /// Ledger of an interface, by direction.
    pub fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.drain.ledger(interface)
    }
}

/// Size of `struct __sk_buff` in bytes.
const CONTEXT: usize = 192;

/// A `struct __sk_buff` for a super-packet with an unknown number of segments.
fn context(segment: u32) -> [u8; CONTEXT] {
    const GSO_SIZE: usize = 176;
    let mut context = [0; CONTEXT];
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&segment.to_ne_bytes());
    context
}
