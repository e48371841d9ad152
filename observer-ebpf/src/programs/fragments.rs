//! Ports of fragments.
//!
//! Only the first fragment of a packet has a transport header. Its ports are kept for a while in a small table, one
//! word for each packet, so that CPUs can share it without a lock: a word is written whole or not at all. What is in
//! a word of another packet is recognised by 24 bits of a keyed hash, beside the 13 that chose the place; what is too
//! old, by the time that went into the hash.

use observer_ebpf::{
    abi::Direction,
    packet::{Fragment, Packet, Part},
};

use super::{
    clock::now,
    maps::{FRAGMENT_BITS, FRAGMENTS},
    settings::{FRAGMENT_AGE, hash},
};

const TAG_SHIFT: u32 = 40;
const PROTOCOL_SHIFT: u32 = 32;

/// Keeps the ports of a first fragment; gives a later one those of its first, where that was seen.
#[inline(always)]
pub(super) fn resolve(packet: &mut Packet, interface: u16, direction: Direction) {
    let Fragment { part, id } = packet.fragment;
    if part == Part::Whole {
        return;
    }
    // A fragment finds its first for one age to two.
    let age = u64::from(now() >> (FRAGMENT_AGE.load() & 31));
    if part == Part::First {
        let place = Place::new(packet, id, (interface, direction), age);
        if let Some(word) = FRAGMENTS.get_ptr_mut(place.index) {
            let ports = u64::from(packet.source_port_be) << 16 | u64::from(packet.destination_port_be);
            // SAFETY: a map value; other CPUs see the old word or the new one.
            unsafe {
                word.write_volatile(
                    place.tag << TAG_SHIFT | u64::from(packet.protocol) << PROTOCOL_SHIFT | ports,
                )
            };
        }
        return;
    }
    for age in [age, age.wrapping_sub(1)] {
        let place = Place::new(packet, id, (interface, direction), age);
        let Some(word) = FRAGMENTS.get_ptr(place.index) else { return };
        // SAFETY: a map value.
        let word = unsafe { word.read_volatile() };
        if word >> TAG_SHIFT == place.tag {
            packet.source_port_be = (word >> 16) as u16;
            packet.destination_port_be = word as u16;
            // IPv6 names the protocol in the first fragment; a later one may name an extension header.
            packet.protocol = (word >> PROTOCOL_SHIFT) as u8;
            packet.note = None;
            return;
        }
    }
}

struct Place {
    index: u32,
    tag: u64,
}

impl Place {
    #[inline(always)]
    fn new(packet: &Packet, id: u32, (interface, direction): (u16, Direction), age: u64) -> Self {
        let rest = u64::from(id) << 32
            | (packet.family as u64) << 24
            | (age << 17 & 0x00fe_0000)
            | (direction as u64) << 16
            | u64::from(interface);
        let [source, destination] = [packet.source, packet.destination];
        let words = [source[0], source[1], destination[0], destination[1], rest];
        let hash = hash(|word| words[word]);
        // The upper bits are the good ones. A tag is never 0: that is an empty word.
        Self {
            index: (hash >> (64 - FRAGMENT_BITS)) as u32,
            tag: hash >> (64 - FRAGMENT_BITS - 24) & 0x00ff_ffff | 1,
        }
    }
}
