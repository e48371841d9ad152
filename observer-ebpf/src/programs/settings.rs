//! Constants that the loader sets before the verifier sees the program. See `abi::names` for their meaning.

use aya_ebpf::Global;
use observer_ebpf::abi::FlowKey;

#[unsafe(no_mangle)]
pub(super) static INTERFACE: Global<u16> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static CPUS: Global<u32> = Global::new(1);
#[unsafe(no_mangle)]
pub(super) static SETS: Global<u32> = Global::new(64);
#[unsafe(no_mangle)]
pub(super) static RING_PRESSED: Global<u32> = Global::new(u32::MAX);
#[unsafe(no_mangle)]
pub(super) static COARSE_CLOCK: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
pub(super) static LINK_HEADER: Global<u32> = Global::new(14);
#[unsafe(no_mangle)]
static HASH_FACTORS: [u64; FlowKey::WORDS] = [1; FlowKey::WORDS];

/// One factor of the hash.
#[inline(always)]
pub(super) fn hash_factor(word: usize) -> u64 {
    // SAFETY: `word` is a constant below the array's length at every call; volatile, because the loader changes the
    // value behind the compiler's back.
    unsafe { core::ptr::read_volatile((&raw const HASH_FACTORS).cast::<u64>().add(word)) }
}
