/// What the daemon tells every program, one per host, in an mmap-able array of one element.
///
/// Written by the daemon alone, read by the programs for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Counts the flips. Bit 0 names the half of the flow cache that takes new packets; the low six bits travel in
    /// each [`FlowKey`](super::FlowKey), so that a spilled entry says which side of a window's edge it fell on.
    pub generation: u64,
    /// Entries that an interface may make in one direction, on one CPU and in one generation, before it has used more
    /// than its share of the cache.
    pub share: u32,
    /// Sets of each row that take entries, at most as many as there are. Few while there are few flows: what lies close
    /// together costs fewer misses of the CPU's caches, above all of its translation cache.
    ///
    /// It changes with the generation. A program that reads one before and the other after does no harm: an entry in
    /// another set than the last one of its flow is one more entry of that flow.
    pub sets: u32,
}

const _: () = assert!(size_of::<Control>() == 16);
