//! Ports of fragmented packets.
//!
//! Only the first fragment has a transport header. Its ports are remembered as long as the kernel
//! waits for the other fragments: 30 s for IPv4 (`net.ipv4.ipfrag_time`), 60 s for IPv6 (RFC 8200,
//! 4.5).
//!
//! The table is bounded and shared by all CPUs without a lock. A hash selects a set of four
//! entries; a new entry replaces the oldest. An entry is two words, each written atomically and
//! each with bits of the hash, so that words written by two CPUs at once are not taken for one
//! entry.

use observer_ebpf::{
    abi::{Direction, FRAGMENT_SETS, FRAGMENT_WAYS, Family, Fragments},
    packet::{Fragment, Packet, Part},
};

use super::{
    clock::now,
    maps::FRAGMENTS,
    settings::{FRAGMENT_TICKS, hash},
};

/// The first word: 24 bits of the hash, the protocol, source and destination port.
const TAG_SHIFT: u32 = 40;
const PROTOCOL_SHIFT: u32 = 32;
/// The second word: 32 bits of the hash, and the time of the first fragment in ticks.
const CHECK_SHIFT: u32 = 32;
/// Bits of the hash that select a set.
const SET_BITS: u32 = FRAGMENT_SETS.ilog2();

/// Remembers the ports of a first fragment; gives a later fragment those of its first, if that was
/// seen.
#[inline(always)]
pub(super) fn resolve(packet: &mut Packet, interface: u16, direction: Direction) {
    let Fragment { part, id } = packet.fragment;
    if part == Part::Whole {
        return;
    }
    let place = Place::new(packet, id, (interface, direction));
    let Some(set) = FRAGMENTS.get_ptr_mut(place.set) else { return };
    if part == Part::First {
        remember(packet, &place, set);
    } else {
        recall(packet, &place, set);
    }
}

#[inline(always)]
fn remember(packet: &Packet, place: &Place, set: *mut Fragments) {
    let now = now();
    let (mut chosen, mut oldest) = (0, 0);
    for way in 0..FRAGMENT_WAYS {
        // SAFETY: a map value; `way` is within it.
        let [first, second] = unsafe { (&raw const (*set)[way]).read_volatile() };
        let age = if first == 0 { u32::MAX } else { now.wrapping_sub(second as u32) };
        if first >> TAG_SHIFT == place.tag {
            chosen = way;
            break;
        }
        if age >= oldest {
            (chosen, oldest) = (way, age);
        }
    }
    let ports = u64::from(packet.source_port_be) << 16 | u64::from(packet.destination_port_be);
    let first = place.tag << TAG_SHIFT | u64::from(packet.protocol) << PROTOCOL_SHIFT | ports;
    let second = place.check << CHECK_SHIFT | u64::from(now);
    // SAFETY: as above; other CPUs see each word old or new.
    unsafe {
        let entry = (&raw mut (*set)[chosen]).cast::<u64>();
        entry.write_volatile(first);
        entry.add(1).write_volatile(second);
    }
}

#[inline(always)]
fn recall(packet: &mut Packet, place: &Place, set: *const Fragments) {
    let now = now();
    let limit = match packet.family {
        Family::V4 => FRAGMENT_TICKS.load(),
        Family::V6 => 2 * FRAGMENT_TICKS.load(),
    };
    for way in 0..FRAGMENT_WAYS {
        // SAFETY: a map value; `way` is within it.
        let [first, second] = unsafe { (&raw const (*set)[way]).read_volatile() };
        // Packets of a capture may be out of order: a first fragment may be later than the fragment
        // that follows it.
        let is_in_time = now.wrapping_sub(second as u32).wrapping_add(limit) <= 2 * limit;
        if first >> TAG_SHIFT == place.tag && second >> CHECK_SHIFT == place.check && is_in_time {
            packet.source_port_be = (first >> 16) as u16;
            packet.destination_port_be = first as u16;
            // For IPv6, the first fragment has the protocol; a later one may name an extension
            // header.
            packet.protocol = (first >> PROTOCOL_SHIFT) as u8;
            packet.note = None;
            return;
        }
    }
}

struct Place {
    set: u32,
    tag: u64,
    check: u64,
}

impl Place {
    #[inline(always)]
    fn new(packet: &Packet, id: u32, (interface, direction): (u16, Direction)) -> Self {
        let rest = u64::from(id) << 32
            | (packet.family as u64) << 17
            | (direction as u64) << 16
            | u64::from(interface);
        let [source, destination] = [packet.source, packet.destination];
        let words = [source[0], source[1], destination[0], destination[1], rest];
        let hash = hash(|word| words[word]);
        // The upper bits are the best ones. A tag is never 0, which marks an unused entry.
        Self {
            set: (hash >> (64 - SET_BITS)) as u32,
            tag: hash >> (64 - SET_BITS - 24) & 0x00ff_ffff | 1,
            check: hash & 0xffff_ffff,
        }
    }
}
