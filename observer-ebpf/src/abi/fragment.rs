/// First fragments in a set: packets with the same hash whose ports can be remembered at once.
pub const FRAGMENT_WAYS: usize = 4;

/// Sets of the table of first fragments: 2,048 of 64 bytes are 128 KiB, and 8,192 packets.
pub const FRAGMENT_SETS: u32 = 2048;

/// A set of the table of first fragments, in two words each. The programs' own; its size is a cache line.
pub type Fragments = [[u64; 2]; FRAGMENT_WAYS];

const _: () = assert!(size_of::<Fragments>() == 64);
const _: () = assert!(FRAGMENT_SETS.is_power_of_two());
