//! Fast formatting of addresses (RFC 5952), which are a third of a text record. The standard
//! library's `Display` takes several times as long.

use std::net::{IpAddr, Ipv6Addr};

use super::digits::in_place;

/// Appends an address.
pub(super) fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => write_v4(address.octets(), out),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            // RFC 5952, 5: the known prefix of IPv4-mapped addresses, and the rest in dotted
            // decimal.
            Some(mapped) => {
                out.extend_from_slice(b"::ffff:");
                write_v4(mapped.octets(), out);
            }
            None => write_v6(address, out),
        },
    }
}

/// Decimal digits of each byte, and their number.
const DECIMAL: [([u8; 3], u8); 256] = {
    let mut table = [([0; 3], 0); 256];
    let mut number = 0;
    while number < 256 {
        let digits = [
            b'0' + (number / 100) as u8,
            b'0' + (number / 10 % 10) as u8,
            b'0' + (number % 10) as u8,
        ];
        table[number] = match number {
            0..10 => ([digits[2], 0, 0], 1),
            10..100 => ([digits[1], digits[2], 0], 2),
            _ => (digits, 3),
        };
        number += 1;
    }
    table
};

fn write_v4(octets: [u8; 4], out: &mut Vec<u8>) {
    in_place::<16>(out, |text| {
        let mut length = 0;
        for octet in octets {
            let (digits, count) = DECIMAL[usize::from(octet)];
            text[length..length + 3].copy_from_slice(&digits);
            length += usize::from(count);
            text[length] = b'.';
            length += 1;
        }
        length - 1
    });
}

fn write_v6(address: Ipv6Addr, out: &mut Vec<u8>) {
    let segments = address.segments();
    let (zeros, count) = longest_zeros(segments);
    in_place::<40>(out, |text| {
        let mut length = 0;
        let mut at = 0;
        while at < segments.len() {
            if at == zeros && count > 1 {
                text[length..length + 2].copy_from_slice(b"::");
                length += 2;
                at += count;
                continue;
            }
            // No colon after a `::`, which ends with one.
            if at != 0 && !(count > 1 && at == zeros + count) {
                text[length] = b':';
                length += 1;
            }
            let segment = segments[at];
            let digits = (16 - segment.leading_zeros()).div_ceil(4).max(1);
            for digit in (0..digits).rev() {
                text[length] = b"0123456789abcdef"[usize::from(segment >> (4 * digit) & 0xf)];
                length += 1;
            }
            at += 1;
        }
        length
    });
}

/// Start and length of the first of the longest runs of zeros.
fn longest_zeros(segments: [u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((0, 0), (0, 0));
    for (at, segment) in segments.into_iter().enumerate() {
        run = if segment == 0 { (run.0, run.1 + 1) } else { (at + 1, 0) };
        if run.1 > longest.1 {
            longest = run;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(address: IpAddr) -> String {
        let mut out = Vec::new();
        write_address(address, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_byte_is_written_as_the_standard_library_writes_it() {
        for byte in 0..=255 {
            for address in [[byte, 0, 10, 255], [1, byte, byte, 100], [255, 99, 9, byte]] {
                assert_eq!(written(address.into()), IpAddr::from(address).to_string());
            }
        }
    }

    #[test]
    fn every_pattern_of_zeros_is_written_as_the_standard_library_writes_it() {
        for pattern in 0..256_u32 {
            for digit in [1, 0x12, 0x123, 0xfedc] {
                let segments: [u16; 8] =
                    std::array::from_fn(|at| if pattern >> at & 1 == 0 { 0 } else { digit });
                let address = Ipv6Addr::from(segments);
                assert_eq!(written(address.into()), address.to_string());
            }
        }
    }

    #[test]
    fn examples_of_rfc_5952() {
        for (address, text) in [
            ("2001:0db8::0001", "2001:db8::1"),
            ("2001:db8:0:0:0:0:2:1", "2001:db8::2:1"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("2001:0:0:1:0:0:0:1", "2001:0:0:1::1"),
            ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
            ("2001:DB8::AAAA", "2001:db8::aaaa"),
            ("::", "::"),
            ("::1", "::1"),
            ("1::", "1::"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
            ("::ffff:0:0", "::ffff:0.0.0.0"),
            ("::fffe:10.0.0.1", "::fffe:a00:1"),
            ("1::ffff:10.0.0.1", "1::ffff:a00:1"),
        ] {
            assert_eq!(written(address.parse().unwrap()), text);
        }
    }
}
