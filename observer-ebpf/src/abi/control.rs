/// Parameters that the daemon sets for all programs of the host: an mmap-able array of one element.
///
/// Written by the daemon only; read by the programs for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Number of flips. Bit 0 selects the half of the flow cache for new packets. The low six bits
    /// are in each [`FlowKey`](super::FlowKey), so that a spilled entry tells its window.
    pub generation: u64,
    /// Entries that an interface may make per direction, CPU and generation before it exceeds its
    /// share of the cache.
    pub share: u32,
    /// Number of sets in use per row. Fewer sets while there are few flows: dense data causes fewer
    /// misses of the CPU's caches and its TLB.
    ///
    /// It changes with the generation. A race between the two is harmless: an entry in another set
    /// is one more entry of the same flow.
    pub sets: u32,
}

const _: () = assert!(size_of::<Control>() == 16);
