/// What the daemon tells every program, one per host, in an mmap-able array of one element.
///
/// Written by the daemon alone, read by the programs for every packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Control {
    /// Counts the flips. Bit 0 names the half of the flow cache that takes new packets; the low seven bits travel in
    /// each [`FlowKey`](super::FlowKey), so that a spilled entry says which side of a window's edge it fell on.
    pub generation: u64,
}

const _: () = assert!(size_of::<Control>() == 8);
