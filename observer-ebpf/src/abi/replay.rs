/// What a replay says of the packet that it runs next, in an mmap-able array of one element.
///
/// Written before each run, read only by programs that were loaded with [`Clock::Replay`](super::Clock::Replay).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// When it was captured, in milliseconds modulo 2^32. In place of ticks: the unit of a capture's records.
    pub now: u32,
    /// How long it was, which may be more than was captured, and more than the kernel takes for a run.
    pub frame_len: u32,
    /// The interface that it crossed, from 1.
    pub interface: u16,
    /// Named so that the kernel never sees bytes that nobody wrote.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<Replay>() == 16);
