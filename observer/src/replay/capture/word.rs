//! Integers in the byte order of a file.

/// The 32-bit word at an offset; 0 if the slice is too short.
pub(super) fn word_at(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word =
        bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}
