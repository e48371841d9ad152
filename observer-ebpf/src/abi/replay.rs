/// The packet that a replay runs next, in an mmap-able array of one element.
///
/// Written before each run. Read only by programs loaded with
/// [`Clock::Replay`](super::Clock::Replay).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// Time of capture in milliseconds modulo 2^32, the unit of the records of a replay, in place
    /// of ticks.
    pub now: u32,
    /// Original length of the frame, which may exceed the captured bytes and the kernel's limit for
    /// a run.
    pub frame_len: u32,
    /// Number of the interface, from 1.
    pub interface: u16,
    /// Explicit padding, so that no uninitialised bytes reach the kernel.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<Replay>() == 16);
