/// First fragments per set: packets with the same hash whose ports are remembered at the same time.
pub const FRAGMENT_WAYS: usize = 4;

/// Sets of the table of first fragments: 2,048 of 64 bytes are 128 KiB, and 8,192 packets.
pub const FRAGMENT_SETS: u32 = 2048;

/// A set of the table of first fragments, two words each; it is a cache line. Used by the programs
/// only.
pub type Fragments = [[u64; 2]; FRAGMENT_WAYS];

const _: () = assert!(size_of::<Fragments>() == 64);
const _: () = assert!(FRAGMENT_SETS.is_power_of_two());
