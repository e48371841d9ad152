//! Constants that the loader sets before the verifier sees the program. See `abi::names` for their
//! meaning.

use aya_ebpf::Global;
use observer_ebpf::{
    abi::{Clock, DROP_VERDICTS, DropReasons, KernelLayout},
    hash::{FACTORS, hash as keyed},
};

use super::maps::REPLAY;

#[unsafe(no_mangle)]
static INTERFACE: Global<u16> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static CPUS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(super) static SETS: Global<u32> = Global::new(64);
#[unsafe(no_mangle)]
pub(super) static RING_PRESSED: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
static CLOCK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static FRAGMENT_TICKS: Global<u32> = Global::new(30_000);
#[unsafe(no_mangle)]
pub(super) static LINK_HEADER: Global<u32> = Global::new(14);
#[unsafe(no_mangle)]
pub(super) static SHARED: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static DROP_ARGUMENTS: Global<u32> = Global::new(2);
#[unsafe(no_mangle)]
pub(super) static LAYOUT: [u32; KernelLayout::WORDS] = [0; KernelLayout::WORDS];
#[unsafe(no_mangle)]
pub(super) static REASONS: [u32; DropReasons::WORDS] = [0; DropReasons::WORDS];
#[unsafe(no_mangle)]
pub(super) static VERDICTS: [u8; DROP_VERDICTS] = [0; DROP_VERDICTS];
#[unsafe(no_mangle)]
pub(super) static XDP_MARK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static XDP_GENERIC: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static HASH_FACTORS: [u64; FACTORS] = [1; FACTORS];

/// True if this load uses `clock`. The verifier removes branches that a load does not take.
#[inline(always)]
pub(super) fn clock_is(clock: Clock) -> bool {
    CLOCK.load() == clock as u32
}

/// The interface that a packet crosses.
#[inline(always)]
pub(super) fn interface() -> u16 {
    if clock_is(Clock::Replay) {
        return REPLAY.get(0).map_or(0, |replay| replay.interface);
    }
    INTERFACE.load()
}

/// The hash of five words with the factors of this load.
#[inline(always)]
pub(super) fn hash(word: impl Fn(usize) -> u64) -> u64 {
    // SAFETY: the factor is within the array; volatile, because the loader changes the value behind
    // the compiler's back.
    keyed(word, |factor| unsafe {
        (&raw const HASH_FACTORS).cast::<u64>().add(factor).read_volatile()
    })
}
