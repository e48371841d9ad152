//! Link types of captures (<https://www.tcpdump.org/linktypes.html>). Every packet becomes an
//! Ethernet frame, because test runs of the kernel take Ethernet frames. Records do not count link
//! headers.

use observer_ebpf::abi::Direction;

use super::{capture::Packet, link_names};

/// Link header of an interface's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkType {
    Ethernet,
    /// None: packets begin with the IP header.
    Raw,
    /// Four bytes: the address family, in the byte order of the capturing host or of the network.
    Family,
    /// The header of Linux for packets of the pseudo-interface `any`.
    LinuxCooked,
    /// Version 2 of that header, which contains the interface index.
    LinuxCooked2,
}

/// A link type that replay does not support. Displays as number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} ({name})", name = link_names::name(*.0).unwrap_or("no known link type"))]
pub(super) struct UnsupportedLinkType(u16);

impl LinkType {
    /// The link type with a `LINKTYPE_` number.
    pub(super) fn of(number: u16) -> Result<Self, UnsupportedLinkType> {
        Ok(match number {
            1 => Self::Ethernet,
            // Some files contain 12 or 14, the `DLT_` numbers of raw IP.
            101 | 228 | 229 | 12 | 14 => Self::Raw,
            0 | 108 => Self::Family,
            113 => Self::LinuxCooked,
            276 => Self::LinuxCooked2,
            _ => return Err(UnsupportedLinkType(number)),
        })
    }

    /// Length of the header in bytes. An Ethernet header stays part of the frame.
    const fn header(self) -> usize {
        match self {
            Self::Ethernet | Self::Raw => 0,
            Self::Family => 4,
            Self::LinuxCooked => 16,
            Self::LinuxCooked2 => 20,
        }
    }
}

/// A packet as an Ethernet frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'a> {
    /// Captured bytes, from the Ethernet header on.
    pub(super) bytes: &'a [u8],
    /// Original length in bytes.
    pub(super) len: u32,
    /// Direction, if the capture gives it.
    pub(super) direction: Option<Direction>,
    /// Destination and source in its Ethernet header, if it was captured with one.
    pub(super) macs: Option<([u8; 6], [u8; 6])>,
}

const ETHERNET: usize = 14;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// EtherType of packets that have none.
const UNKNOWN: u16 = 0;

impl<'a> Frame<'a> {
    /// The frame of a packet. A packet that ends inside its link header gives an empty frame.
    pub(super) fn of(link: LinkType, packet: &Packet<'a>, buffer: &'a mut Vec<u8>) -> Self {
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
        buffer.clear();
        buffer.extend([0; ETHERNET - 2]);
        buffer.extend(ether_type.to_be_bytes());
        buffer.extend(&data[header..]);
        Self { bytes: buffer, len, direction: packet.direction.or(direction), macs: None }
    }
}

/// EtherType and direction that a link header gives.
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

/// EtherType of an address family. `AF_INET` is the same on all systems, `AF_INET6` is not.
fn of_family(header: &[u8]) -> u16 {
    // Families are less than 256, so the byte order shows.
    match *header {
        [family, 0, 0, 0] | [0, 0, 0, family] => match family {
            2 => IPV4,
            10 | 24 | 28 | 30 => IPV6,
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    }
}

/// Egress for `PACKET_OUTGOING`; all other types were received.
fn of_packet_type(packet_type: u16) -> Direction {
    const OUTGOING: u16 = 4;
    if packet_type == OUTGOING { Direction::Egress } else { Direction::Ingress }
}

/// Index of the interface of a packet captured on `any`, if the link header contains it.
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

    /// Checks EtherType, length and direction of a packet that is 100 bytes longer than its
    /// captured part.
    fn check(number: u16, header: &[u8], expected: (u16, Option<Direction>)) {
        let link = LinkType::of(number).unwrap();
        let data = [header, &IP[..]].concat();
        let len = data.len() as u32 + 100;
        let packet = Packet { source: 0, unix_ms: None, data: &data, len, direction: None };
        let mut buffer = Vec::new();
        let frame = Frame::of(link, &packet, &mut buffer);
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
        let cooked2 =
            |packet_type| [8, 0, 0, 0, 0, 0, 0, 7, 0, 1, packet_type, 6, 2, 0, 0, 0, 0, 1, 0, 0];
        check(276, &cooked2(0), (IPV4, ingress));
        check(276, &cooked2(4), (IPV4, egress));
        let data = cooked2(0);
        let packet = Packet { source: 0, unix_ms: None, data: &data, len: 20, direction: None };
        assert_eq!(interface_index(LinkType::LinuxCooked2, &packet), Some(7));
    }

    #[test]
    fn a_packet_cut_in_its_link_header_has_no_bytes() {
        let packet = Packet { source: 0, unix_ms: None, data: &[0; 15], len: 60, direction: None };
        let mut buffer = Vec::new();
        let frame = Frame::of(LinkType::LinuxCooked, &packet, &mut buffer);
        assert_eq!((frame.bytes.len(), frame.len), (0, 58));
    }

    #[test]
    fn other_link_types_are_named() {
        let error = |number| LinkType::of(number).unwrap_err().to_string();
        assert_eq!(error(105), "105 (IEEE802_11)");
        assert_eq!(error(147), "147 (USER0)");
        assert_eq!(error(65_535), "65535 (no known link type)");
    }
}
