//! Link types of captures (<https://www.tcpdump.org/linktypes.html>): every packet becomes an Ethernet frame, which is
//! what the kernel takes for a test run. Link headers count nowhere in a record.

use observer_ebpf::abi::Direction;

use super::{capture::Packet, link_names};

/// What packets of an interface begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkType {
    Ethernet,
    /// An IP header.
    Raw,
    /// Four bytes that hold the address family in the byte order of the host that captured, or in that of the network.
    Family,
    /// The header that Linux gives to packets of the pseudo-interface `any`.
    LinuxCooked,
    /// Its second version, which knows the interface.
    LinuxCooked2,
}

impl LinkType {
    /// The one with this number; for one that is not read, an error with its number and name.
    pub(super) fn of(number: u16) -> Result<Self, String> {
        Ok(match number {
            1 => Self::Ethernet,
            // 12 and 14 stand in files that were written with the numbers of the programming interface.
            101 | 228 | 229 | 12 | 14 => Self::Raw,
            0 | 108 => Self::Family,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            _ => {
                let name = link_names::name(number).unwrap_or("no known link type");
                return Err(format!("{number} ({name})"));
            }
        })
    }

    const fn header(self) -> usize {
        match self {
            Self::Ethernet | Self::Raw => 0,
            Self::Family => 4,
            Self::LinuxCooked => 16,
            Self::LinuxCooked2 => 20,
        }
    }
}

/// A packet as a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// What there is of it, from the Ethernet header on.
    pub(super) bytes: &'a [u8],
    /// How long it was.
    pub(super) len: u32,
    /// Which way it went, where the capture says.
    pub(super) direction: Option<Direction>,
    /// The addresses in its Ethernet header, destination and source, where it had one.
    pub(super) macs: Option<([u8; 6], [u8; 6])>,
}

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// The EtherType of what has none.
const UNKNOWN: u16 = 0;

impl<'a> Frame<'a> {
    /// The frame of a packet. One that ends inside its link header has no bytes.
    pub(super) fn of(link: LinkType, packet: &Packet<'a>, room: &'a mut Vec<u8>) -> Self {
        let data = packet.data;
        if link == LinkType::Ethernet {
            let macs = data.first_chunk::<12>().map(|macs| {
                let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *macs;
                ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5])
            });
            return Self { bytes: data, len: packet.len, direction: packet.direction, macs };
        }
        let header = link.header();
        let len = packet.len.saturating_sub(header as u32).saturating_add(ETHERNET as u32);
        if data.len() < header {
            return Self { bytes: &[], len, direction: packet.direction, macs: None };
        }
        let (ether_type, direction) = cooked(link, &data[..header], data);
        room.clear();
        room.extend([0; ETHERNET - 2]);
        room.extend(ether_type.to_be_bytes());
        room.extend(&data[header..]);
        Self { bytes: room, len, direction: packet.direction.or(direction), macs: None }
    }
}

/// The EtherType that a link header stands for, and the direction that it names.
fn cooked(link: LinkType, header: &[u8], packet: &[u8]) -> (u16, Option<Direction>) {
    let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    match link {
        LinkType::Ethernet => (UNKNOWN, None),
        LinkType::Raw => (of_version(packet), None),
        LinkType::Family => (of_family(header), None),
        LinkType::LinuxCooked => (field(14), Some(of_packet_type(field(0)))),
        LinkType::LinuxCooked2 => (field(0), Some(of_packet_type(header[10].into()))),
    }
}

fn of_version(packet: &[u8]) -> u16 {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => IPV4,
        Some(6) => IPV6,
        _ => UNKNOWN,
    }
}

/// `AF_INET` is the same everywhere, `AF_INET6` is not.
fn of_family(header: &[u8]) -> u16 {
    // Either byte order: one end of the word is 0.
    match *header {
        [family, 0, 0, 0] | [0, 0, 0, family] => match family {
            2 => IPV4,
            10 | 24 | 28 | 30 => IPV6,
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    }
}

/// `PACKET_OUTGOING`; all others have come in, whoever they were for.
fn of_packet_type(packet_type: u16) -> Direction {
    const OUTGOING: u16 = 4;
    if packet_type == OUTGOING { Direction::Egress } else { Direction::Ingress }
}

/// The index of the interface that a packet of `any` crossed.
pub(super) fn interface_index(link: LinkType, packet: &Packet<'_>) -> Option<u32> {
    if link != LinkType::LinuxCooked2 {
        return None;
    }
    packet.data.get(4..8).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IP: [u8; 20] = [0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];

    /// EtherType, length and direction of a packet that has 100 bytes more than were captured.
    fn check(number: u16, header: &[u8], expected: (u16, Option<Direction>)) {
        let link = LinkType::of(number).unwrap();
        let data = [header, &IP[..]].concat();
        let len = data.len() as u32 + 100;
        let packet = Packet { source: 0, unix_ms: None, data: &data, len, direction: None };
        let mut room = Vec::new();
        let frame = Frame::of(link, &packet, &mut room);
        let (ether_type, direction) = expected;
        assert_eq!(frame.bytes[12..14], ether_type.to_be_bytes(), "{number}");
        assert_eq!(frame.bytes[14..], IP, "{number}");
        assert_eq!((frame.len, frame.direction), (14 + 20 + 100, direction), "{number}");
    }

    #[test]
    fn every_link_header_gives_way_to_an_ethernet_header() {
        let (ingress, egress) = (Some(Direction::Ingress), Some(Direction::Egress));
        check(101, &[], (IPV4, None));
        check(228, &[], (IPV4, None));
        check(0, &[2, 0, 0, 0], (IPV4, None));
        check(0, &[0, 0, 0, 2], (IPV4, None));
        for family in [10, 24, 28, 30] {
            check(0, &[family, 0, 0, 0], (IPV6, None));
        }
        check(108, &[0, 0, 0, 2], (IPV4, None));
        check(0, &[7, 0, 0, 0], (UNKNOWN, None));
        let cooked = |packet_type, ether_type: [u8; 2]| {
            [&[0, packet_type, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0], &ether_type[..]].concat()
        };
        for packet_type in 0..4 {
            check(113, &cooked(packet_type, [8, 0]), (IPV4, ingress));
        }
        check(113, &cooked(4, [8, 0]), (IPV4, egress));
        check(113, &cooked(4, [0x81, 0]), (0x8100, egress));
        let cooked2 = |packet_type| [8, 0, 0, 0, 0, 0, 0, 7, 0, 1, packet_type, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        check(276, &cooked2(0), (IPV4, ingress));
        check(276, &cooked2(4), (IPV4, egress));
        let data = cooked2(0);
        let packet = Packet { source: 0, unix_ms: None, data: &data, len: 20, direction: None };
        assert_eq!(interface_index(LinkType::LinuxCooked2, &packet), Some(7));
    }

    #[test]
    fn a_packet_cut_in_its_link_header_has_no_bytes() {
        let packet = Packet { source: 0, unix_ms: None, data: &[0; 15], len: 60, direction: None };
        let mut room = Vec::new();
        let frame = Frame::of(LinkType::LinuxCooked, &packet, &mut room);
        assert_eq!((frame.bytes.len(), frame.len), (0, 58));
    }

    #[test]
    fn other_link_types_are_named() {
        assert_eq!(LinkType::of(105), Err("105 (IEEE802_11)".into()));
        assert_eq!(LinkType::of(147), Err("147 (USER0)".into()));
        assert_eq!(LinkType::of(65_535), Err("65535 (no known link type)".into()));
    }
}
