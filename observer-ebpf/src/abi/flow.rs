/// Slots per set of the flow cache: the number of flows with the same set that fit.
pub const WAYS: usize = 4;

/// Direction in which a packet crosses the interface, seen from the task.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Towards the task.
    Ingress = 0,
    /// From the task.
    Egress = 1,
}

impl Direction {
    /// Both directions, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The text of the `flow-direction` field of VPC Flow Logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }
}

/// The address family of a packet.
///
/// Part of the flow's key: the addresses of IPv6 packets in `::ffff:0:0/96` are stored in the same
/// 16 bytes as IPv4 addresses.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    #[default]
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// The key of a flow: the 40 bytes that the cache compares.
///
/// Addresses are in network byte order, IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2);
/// [`family`](Self::family) distinguishes it from IPv6 packets with such addresses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// Source address, 16 bytes as in the packet.
    pub source: [u64; 2],
    /// Destination address, 16 bytes as in the packet.
    pub destination: [u64; 2],
    /// Source port in network byte order; type and code for ICMP and ICMPv6; otherwise 0.
    pub source_port_be: u16,
    /// Destination port in network byte order; for ICMP and ICMPv6 not 0 if type and code were
    /// read; otherwise 0.
    pub destination_port_be: u16,
    /// IANA protocol number; for IPv6 the one behind the extension headers.
    pub protocol: u8,
    /// Bit 0 is the [`Direction`], bit 1 the [`Family`], bits 2 to 7 are the low bits of
    /// [`Control::generation`](super::Control::generation).
    pub tag: u8,
    /// Number that the daemon gave the interface when it loaded the program; never 0.
    pub interface: u16,
}

impl FlowKey {
    /// Number of words. The last one holds ports, protocol, tag and interface.
    pub const WORDS: usize = 5;

    /// Maps the four bytes of an IPv4 address in network byte order to the 16 bytes of an
    /// IPv4-mapped IPv6 address.
    #[inline(always)]
    pub const fn mapped(address: [u8; 4]) -> [u64; 2] {
        [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, address[0], address[1], address[2], address[3]])]
    }

    /// Computes the field [`tag`](Self::tag).
    #[inline(always)]
    pub const fn tag(generation: u64, direction: Direction, family: Family) -> u8 {
        (generation << 2) as u8 | (family as u8) << 1 | direction as u8
    }

    /// Direction of the packets.
    pub const fn direction(&self) -> Direction {
        if self.tag & 1 == 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// Address family of the packets.
    pub const fn family(&self) -> Family {
        if self.tag & 2 == 0 { Family::V4 } else { Family::V6 }
    }

    /// Low bits of the generation in which the entry was made.
    #[inline(always)]
    pub const fn generation(&self) -> u8 {
        self.tag >> 2
    }

    /// Number of flips since the entry was made, modulo 64, if the generation is `now`.
    pub const fn age(&self, now: u64) -> u8 {
        (now as u8).wrapping_sub(self.generation()) & 0x3f
    }
}

/// An entry of the flow cache: one flow, one half, one CPU, one cache line.
///
/// Unused if [`packets_and_flags`](Self::packets_and_flags) is 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSlot {
    /// The flow.
    pub key: FlowKey,
    /// Bytes of layer 3, IP headers included, as on the wire.
    pub bytes: u64,
    /// Bits 0 to 47: packets as on the wire. Bits 48 to 55: every TCP flag seen. Bit 56: SYN and
    /// ACK in one packet.
    pub packets_and_flags: u64,
    /// Time of the first packet, in ticks: the low half of [`Clock`](super::Clock).
    ///
    /// Wraps after 49 days at 1000 ticks per second. A reader completes it from its own clock
    /// within 24 days.
    pub first: u32,
    /// Time of the last packet, in ticks.
    pub last: u32,
}

impl FlowSlot {
    /// Position of the flags in [`packets_and_flags`](Self::packets_and_flags).
    pub const FLAGS_SHIFT: u32 = 48;
    const SYN_AND_ACK: u64 = 0x12;

    /// The flags of one packet, shifted to their position.
    #[inline(always)]
    pub const fn flags(tcp_flags: u8) -> u64 {
        let flags = tcp_flags as u64;
        let both = (flags & Self::SYN_AND_ACK == Self::SYN_AND_ACK) as u64;
        (flags | both << 8) << Self::FLAGS_SHIFT
    }

    /// Packets as on the wire.
    pub const fn packets(&self) -> u64 {
        self.packets_and_flags & ((1 << Self::FLAGS_SHIFT) - 1)
    }

    /// All eight TCP flags, or-ed.
    pub const fn tcp_flags_all(&self) -> u8 {
        (self.packets_and_flags >> Self::FLAGS_SHIFT) as u8
    }

    /// The `tcp-flags` mask of VPC Flow Logs: FIN, SYN and RST, and ACK only if it was in one
    /// packet with SYN.
    pub const fn tcp_flags_aws(&self) -> u8 {
        let flags = self.packets_and_flags >> Self::FLAGS_SHIFT;
        (flags & 0x07) as u8 | if flags & 0x100 == 0 { 0 } else { 0x12 }
    }
}

/// The slots of one hash value.
pub type FlowSet = [FlowSlot; WAYS];

const _: () = assert!(size_of::<FlowKey>() == 8 * FlowKey::WORDS);
const _: () = assert!(size_of::<FlowKey>() == 16 + 16 + 2 + 2 + 1 + 1 + 2);
const _: () = assert!(size_of::<FlowSlot>() == 64);
const _: () = assert!(size_of::<FlowSlot>() == size_of::<FlowKey>() + 8 + 8 + 4 + 4);
const _: () = assert!(size_of::<FlowSet>() == 64 * WAYS);

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(packets: &[u8]) -> u8 {
        let packets_and_flags = packets.iter().fold(0, |sum, &flags| sum | FlowSlot::flags(flags));
        FlowSlot { packets_and_flags, ..FlowSlot::default() }.tcp_flags_aws()
    }

    #[test]
    fn ack_counts_only_in_one_packet_with_syn() {
        assert_eq!(aws(&[0x02]), 2, "SYN");
        assert_eq!(aws(&[0x12]), 18, "SYN-ACK");
        assert_eq!(aws(&[0x11]), 1, "FIN-ACK");
        assert_eq!(aws(&[0x14]), 4, "RST-ACK");
        assert_eq!(aws(&[0xc2]), 2, "SYN with ECE and CWR");
        assert_eq!(aws(&[0x10, 0x18]), 0, "ACK and PSH alone");
        assert_eq!(aws(&[0x02, 0x10, 0x11]), 3, "the whole of a short client side");
        assert_eq!(aws(&[0x12, 0x18, 0x11]), 19, "the whole of a short server side");
    }

    #[test]
    fn every_combination_of_two_packets_matches_the_per_packet_rule() {
        let rule = |f: u8| (f & 7) | if f & 0x12 == 0x12 { 0x12 } else { 0 };
        for a in 0..=255 {
            for b in [0, 0x02, 0x10, 0x12, 0xff] {
                assert_eq!(aws(&[a, b]), rule(a) | rule(b));
            }
        }
    }

    #[test]
    fn age_counts_flips_modulo_64() {
        let key = |generation| FlowKey {
            tag: FlowKey::tag(generation, Direction::Egress, Family::V4),
            ..FlowKey::default()
        };
        assert_eq!(key(5).age(5), 0);
        assert_eq!(key(5).age(6), 1);
        assert_eq!(key(63).age(64), 1);
        assert_eq!(key(u64::MAX).age(0), 1);
    }

    #[test]
    fn the_parts_of_a_tag_do_not_touch_each_other() {
        for generation in [0, 1, 62, 63, 64, u64::MAX] {
            for direction in Direction::ALL {
                for family in [Family::V4, Family::V6] {
                    let key = FlowKey {
                        tag: FlowKey::tag(generation, direction, family),
                        ..FlowKey::default()
                    };
                    assert_eq!((key.direction(), key.family()), (direction, family));
                    assert_eq!(u64::from(key.generation()), generation & 0x3f);
                }
            }
        }
    }
}
