/// What the daemon tells every program, one per host, in an mmap-able array of one element.
///
/// Written by the daemon alone, read by the programs for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Counts the flips. Bit 0 names the half of the flow cache that takes new packets; the low seven bits travel in
    /// each [`FlowKey`](super::FlowKey), so that a spilled entry says which side of a window's edge it fell on.
    pub generation: u64,
    /// Entries that an interface may make in one direction, on one CPU and in one generation, before it has used more
    /// than its share of the cache.
    pub share: u32,
    /// Makes the size a multiple of 8, by name.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Control>() == 16);
