//! The programs, run on packets that cross no interface: `BPF_PROG_TEST_RUN`.

use std::io;

use aya::programs::{ProgramError, TestRun, TestRunOptions};
use observer_ebpf::abi::{Clock, Direction, Ledger, Replay, names};

use super::{
    Drain, KernelError, Loader, Programs, Sizes, bpffs::PrivatePins, drain::Side, mapping::Mapping,
    object::LoaderOptions, preflight::possible_cpus,
};
use crate::flow::{Delta, InterfaceNumber};

/// Bytes of a frame that are handed to the kernel, which takes no more than a page less its own needs: 3,264 with the
/// largest `MAX_SKB_FRAGS` that can be configured.
const MAX_DATA: usize = 3072;
/// Bytes of kernel memory, if they are enough for this many CPUs.
const MEMORY: u64 = 32 << 20;

/// A frame to run.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// What there is of it, from the Ethernet header on.
    pub bytes: &'a [u8],
    /// How long it was.
    pub len: u32,
    /// When it was captured, in UNIX milliseconds.
    pub unix_ms: i64,
    /// Payload bytes per segment of a super-packet; 0 for an ordinary packet.
    pub segment: u32,
}

/// Whether a frame was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// The program has seen it.
    Yes,
    /// The kernel does not take it: too short for what it says that it is.
    TooShort,
}

/// Programs with maps of their own, for all interfaces of a capture.
#[derive(Debug)]
pub struct TestRuns {
    next: Mapping<Replay>,
    drain: Drain,
    programs: Programs,
    sizes: Sizes,
    _pins: PrivatePins,
}

impl TestRuns {
    /// Loads the programs.
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

    /// How many interfaces there can be.
    pub fn max_interfaces(&self) -> u16 {
        self.sizes.interfaces - 1
    }

    /// Runs the program for one direction of an interface.
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
            Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
                Ok(Taken::TooShort)
            }
            Err(error) => Err(KernelError::call("BPF_PROG_TEST_RUN", io::Error::other(error))),
        }
    }

    /// Hands over all that was counted. Times are milliseconds modulo 2^32.
    pub fn drain(&mut self, mut take: impl FnMut(Delta)) -> Result<(), KernelError> {
        self.drain.drain(|_: Side, delta| take(delta)).map(drop)
    }

    /// Hands over what made room for others. A run makes one such entry at most, and the ring must not fill up.
    pub fn read_ring(&mut self, mut take: impl FnMut(Delta)) {
        self.drain.read_ring(|_: Side, delta| take(delta));
    }

    /// Runs after which the ring must have been read.
    pub fn ring_entries(&self) -> u32 {
        // An entry has a header of 8 bytes; and from three quarters on the ring is choosy.
        self.sizes.ring_bytes / (size_of::<observer_ebpf::abi::FlowSlot>() as u32 + 8) / 2
    }

    /// What was counted under an interface, by direction.
    pub fn ledger(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        self.drain.ledger(interface)
    }
}

/// Size of `struct __sk_buff`.
const CONTEXT: usize = 192;

/// A `struct __sk_buff` whose buffer is a super-packet of an unknown number of segments.
fn context(segment: u32) -> [u8; CONTEXT] {
    const GSO_SIZE: usize = 176;
    let mut context = [0; CONTEXT];
    context[GSO_SIZE..GSO_SIZE + 4].copy_from_slice(&segment.to_ne_bytes());
    context
}
