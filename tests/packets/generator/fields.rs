//! Random values of header fields, mostly valid.

use fastrand::Rng;
use observer_ebpf::packet::Offload;

pub(super) fn offload(random: &mut Rng) -> Offload {
    let size = match random.u8(..8) {
        0 => 0xffff,
        1..=3 => random.u32(1..64),
        _ => random.u32(1..1500),
    };
    let segments = match random.u8(..4) {
        0 => 0,
        1 => random.u32(..=0xffff),
        _ => random.u32(1..64),
    };
    Offload { size, segments }
}

pub(super) fn ether_type(random: &mut Rng) -> u16 {
    match random.u8(..10) {
        0..=3 => 0x0800,
        4..=7 => 0x86dd,
        8 => [0x0806, 0x8100, 0x88a8, 0x9100, 0x0026, 0x05dd, 0x8847, 0x88cc][random.usize(..8)],
        _ => random.u16(..),
    }
}

/// Flags and fragment offset of an IPv4 header.
pub(super) fn ipv4_fragment(random: &mut Rng) -> u16 {
    match random.u8(..8) {
        0 => 0x2000,
        1 => 0x2000 | random.u16(1..0x2000),
        2 => random.u16(1..0x2000),
        3 => random.u16(..),
        // The upper bits of the field do not describe a fragment.
        _ => random.u16(..4) << 14,
    }
}

/// Fragment offset and flag of an IPv6 fragment header.
pub(super) fn ipv6_fragment(random: &mut Rng) -> u16 {
    match random.u8(..6) {
        0 => random.u16(..),
        1 => random.u16(1..0x2000) << 3 | 1,
        2 | 3 => 1,
        _ => 0,
    }
}

/// A length for a header, mostly the true one.
pub(super) fn length(random: &mut Rng, length: usize) -> u16 {
    let length = length as u16;
    match random.u8(..40) {
        0 => 0,
        1 => random.u16(..),
        2 => random.u16(..64),
        3 | 4 => length.saturating_sub(random.u16(1..=40)),
        5 => length.saturating_add(random.u16(1..=40)),
        _ => length,
    }
}
