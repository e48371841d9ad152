//! Fast decimal formatting, and appending text whose length is known only after it is written.
//!
//! A separate buffer and a copy take twice as long: the copy loads words that were stored as single
//! digits, and the CPU has to wait for the stores.

/// Appends the bytes that `write` stores at the start of a buffer of `MOST` bytes. `write` returns
/// their number.
#[inline]
pub(super) fn in_place<const MOST: usize>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut [u8; MOST]) -> usize,
) {
    let from = out.len();
    // A constant size compiles to a few stores without a call.
    out.extend_from_slice(&[0; MOST]);
    let length = out[from..].first_chunk_mut().map_or(0, write);
    out.truncate(from + length);
}

/// Appends a number in decimal.
#[inline]
pub(super) fn write_number(number: u64, out: &mut Vec<u8>) {
    in_place::<24>(out, |text| put(number, text));
}

/// Eight digits at a time, because a loop over digits ends unpredictably for the CPU.
const EIGHT: u64 = 100_000_000;

fn put(number: u64, text: &mut [u8; 24]) -> usize {
    if number >= EIGHT {
        let length = put(number / EIGHT, text);
        text[length..length + 8].copy_from_slice(&ascii(digits(number % EIGHT)));
        length + 8
    } else {
        let digits = digits(number);
        // Keeps one digit if all are zero.
        let zeros = (digits.trailing_zeros() / 8).min(7);
        text[..8].copy_from_slice(&ascii(digits >> (8 * zeros)));
        8 - zeros as usize
    }
}

fn ascii(digits: u64) -> [u8; 8] {
    (digits | 0x3030_3030_3030_3030).to_le_bytes()
}

/// Digits of a number below 100,000,000, the first in the lowest byte. The number is split into
/// halves, quarters and digits, all lanes at once. Quotients come from multiplications that are
/// exact for such small numbers.
const fn digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x0000_007f_0000_007f;
    let twos = hundreds | ((fours - 100 * hundreds) << 16);
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | ((twos - 10 * tens) << 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length_are_written_as_the_standard_library_writes_them() {
        let mixed =
            (0..2_000_000).map(|seed: u64| seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (seed % 64));
        let powers = (0..=19).map(|exponent| 10_u64.pow(exponent));
        for number in powers
            .flat_map(|power| [power - 1, power, power + 1, power * 12 / 10])
            .chain([u64::MAX])
            .chain(0..=10_000)
            .chain(mixed)
        {
            let mut out = b"before ".to_vec();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("before {number}"));
        }
    }
}
