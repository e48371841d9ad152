//! Frames assembled byte by byte, for packets that no socket would send.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::checksum::checksum;
use crate::address::Mac;

/// `EtherType` values (IEEE 802).
pub mod ether_type {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// 802.1Q.
    pub const VLAN: u16 = 0x8100;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1ad, the outer tag of `QinQ`.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// LLDP.
    pub const LLDP: u16 = 0x88cc;
}

/// Protocol numbers (IANA).
pub mod protocol {
    /// Hop-by-hop options of IPv6.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// DCCP.
    pub const DCCP: u8 = 33;
    /// Routing header of IPv6.
    pub const ROUTING: u8 = 43;
    /// Fragment header of IPv6.
    pub const FRAGMENT: u8 = 44;
    /// GRE.
    pub const GRE: u8 = 47;
    /// ESP.
    pub const ESP: u8 = 50;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// `ICMPv6`.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows.
    pub const NO_NEXT: u8 = 59;
    /// Destination options of IPv6.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
}

/// Length of an Ethernet header.
pub const LINK_HEADER: u64 = 14;

/// Offsets of fields in an untagged frame with IPv4 without options.
pub mod ipv4_at {
    use std::ops::Range;

    /// Total length.
    pub const TOTAL_LENGTH: Range<usize> = 16..18;
    /// Source address.
    pub const SOURCE: Range<usize> = 26..30;
    /// Destination address.
    pub const DESTINATION: Range<usize> = 30..34;
    /// Source port.
    pub const SOURCE_PORT: Range<usize> = 34..36;
}

/// A frame to a station that does not exist: hooks and counters see it, and no stack responds.
pub fn ethernet(ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xee, 0x02, 0, 0, 0, 0, 0xef];
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// [`ethernet`] with VLAN tags of these types, outermost first.
pub fn tagged(tags: &[u16], inner: u16, payload: &[u8]) -> Vec<u8> {
    let mut types = tags.iter().copied().chain([inner]);
    let outer = types.next().unwrap_or(inner);
    let mut rest = Vec::new();
    for (id, ether_type) in (100_u16..).zip(types) {
        rest.extend(id.to_be_bytes());
        rest.extend(ether_type.to_be_bytes());
    }
    rest.extend(payload);
    ethernet(outer, &rest)
}

/// Contents of an IPv4 packet.
#[derive(Clone, Debug)]
pub struct Ipv4 {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Options, in whole 32-bit words.
    pub options: Vec<u8>,
    /// Identification, the same in all fragments of a packet.
    pub identification: u16,
    /// Flags and fragment offset, as in the header.
    pub fragment: u16,
    /// Total length to write instead of the true one.
    pub total_length: Option<u16>,
    /// First byte to write instead of the true version and header length.
    pub version_and_length: Option<u8>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Ipv4 {
    /// A plain packet.
    pub fn new(source: Ipv4Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination: Ipv4Addr::new(10, 0, 4, 200),
            protocol,
            options: Vec::new(),
            identification: 0x1234,
            fragment: 0,
            total_length: None,
            version_and_length: None,
            payload,
        }
    }

    /// The encoded packet.
    pub fn bytes(&self) -> Vec<u8> {
        let header = 20 + self.options.len();
        let true_length = (header + self.payload.len()) as u16;
        let mut bytes = vec![self.version_and_length.unwrap_or(0x40 | (header / 4) as u8), 0];
        bytes.extend(self.total_length.unwrap_or(true_length).to_be_bytes());
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend(self.fragment.to_be_bytes());
        bytes.extend([64, self.protocol, 0, 0]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(&self.options);
        bytes.extend(&self.payload);
        bytes
    }

    /// The packet in a frame.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(ether_type::IPV4, &self.bytes())
    }

    /// The packet in a frame to an existing station, with a valid checksum.
    pub fn frame_to(&self, station: Mac) -> Vec<u8> {
        let mut bytes = self.bytes();
        let sum = checksum(&bytes[..20 + self.options.len()]);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = ethernet(ether_type::IPV4, &bytes);
        frame[..6].copy_from_slice(&station.0);
        frame
    }
}

/// Contents of an IPv6 packet.
#[derive(Clone, Debug)]
pub struct Ipv6 {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Extension headers: protocol number, and the bytes behind the next-header field.
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// Protocol number behind the extension headers.
    pub protocol: u8,
    /// Version to write instead of 6.
    pub version: Option<u8>,
    /// Payload length to write instead of the true one.
    pub payload_length: Option<u16>,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Ipv6 {
    /// A plain packet.
    pub fn new(source: Ipv6Addr, protocol: u8, payload: Vec<u8>) -> Self {
        Self {
            source,
            destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 4, 0, 0, 0, 0xc8),
            extensions: Vec::new(),
            protocol,
            version: None,
            payload_length: None,
            payload,
        }
    }

    /// Adds extension headers.
    #[must_use]
    pub fn behind(mut self, extensions: impl IntoIterator<Item = (u8, Vec<u8>)>) -> Self {
        self.extensions.extend(extensions);
        self
    }

    /// The encoded packet.
    pub fn bytes(&self) -> Vec<u8> {
        let mut numbers = self.extensions.iter().map(|(number, _)| *number).chain([self.protocol]);
        let first = numbers.next().unwrap_or(self.protocol);
        let mut rest = Vec::new();
        for (next, (_, body)) in numbers.zip(&self.extensions) {
            rest.push(next);
            rest.extend(body);
        }
        rest.extend(&self.payload);
        let mut bytes = vec![self.version.unwrap_or(0x60), 0, 0, 0];
        bytes.extend(self.payload_length.unwrap_or(rest.len() as u16).to_be_bytes());
        bytes.extend([first, 64]);
        bytes.extend(self.source.octets());
        bytes.extend(self.destination.octets());
        bytes.extend(rest);
        bytes
    }

    /// The packet in a frame.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(ether_type::IPV6, &self.bytes())
    }
}

/// An extension header of `units` times 8 bytes: options, or routing of an unknown type.
pub fn extension(number: u8, units: u8) -> (u8, Vec<u8>) {
    let mut body = vec![0; usize::from(units) * 8 - 1];
    body[0] = units - 1;
    // one option of padding as long as the rest
    body[1] = 1;
    body[2] = units * 8 - 4;
    (number, body)
}

/// A fragment header: offset in units of 8 bytes, and `more` for the flag.
pub fn fragment(offset: u16, more: bool) -> (u8, Vec<u8>) {
    let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
    (protocol::FRAGMENT, vec![0, high, low, 0, 0, 0, 1])
}

/// An authentication header, whose length field has units of 4 bytes.
pub fn authentication() -> (u8, Vec<u8>) {
    let mut body = vec![0; 23];
    body[0] = 4;
    (protocol::AUTHENTICATION, body)
}

/// The beginning of a transport header with ports, and `rest` more bytes.
pub fn ports(source: u16, destination: u16, rest: usize) -> Vec<u8> {
    let mut bytes = source.to_be_bytes().to_vec();
    bytes.extend(destination.to_be_bytes());
    bytes.resize(4 + rest, 0);
    bytes
}

/// A UDP datagram without a checksum.
pub fn udp(source: u16, destination: u16, payload: usize) -> Vec<u8> {
    let mut bytes = ports(source, destination, 4 + payload);
    bytes[4..6].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    bytes
}

/// A TCP segment without options and payload.
pub fn tcp(source: u16, destination: u16, flags: u8) -> Vec<u8> {
    let mut bytes = ports(source, destination, 16);
    bytes[12] = 0x50;
    bytes[13] = flags;
    bytes
}

/// A TCP segment with a valid checksum (RFC 9293, 3.1), which a stack accepts.
pub fn sound_tcp(source: Ipv4Addr, destination: Ipv4Addr, mut segment: Vec<u8>) -> Vec<u8> {
    const CHECKSUM: std::ops::Range<usize> = 16..18;
    segment[CHECKSUM].fill(0);
    let length = (segment.len() as u16).to_be_bytes();
    let pseudo =
        [&source.octets()[..], &destination.octets(), &[0, protocol::TCP], &length].concat();
    let sum = checksum(&[pseudo, segment.clone()].concat());
    segment[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_headers_name_what_follows_them() {
        let packet = Ipv6::new(Ipv6Addr::LOCALHOST, protocol::UDP, udp(1, 2, 0))
            .behind([extension(protocol::HOP_BY_HOP, 1), fragment(0, true)])
            .bytes();
        assert_eq!(packet[6], protocol::HOP_BY_HOP);
        assert_eq!(packet[40], protocol::FRAGMENT);
        assert_eq!(packet[48], protocol::UDP);
        assert_eq!(packet[56..60], [0, 1, 0, 2]);
        assert_eq!(packet.len(), 40 + 8 + 8 + 8);
    }

    #[test]
    fn fields_lie_where_they_are_said_to() {
        let mut packet = Ipv4::new([1, 2, 3, 4].into(), protocol::UDP, udp(0x5060, 0x7080, 2));
        packet.destination = [9, 10, 11, 12].into();
        let frame = packet.frame();
        assert_eq!(frame[ipv4_at::TOTAL_LENGTH], [0, 30]);
        assert_eq!(frame[ipv4_at::SOURCE], [1, 2, 3, 4]);
        assert_eq!(frame[ipv4_at::DESTINATION], [9, 10, 11, 12]);
        assert_eq!(frame[ipv4_at::SOURCE_PORT], [0x50, 0x60]);
    }

    #[test]
    fn the_outer_tag_stands_first() {
        let frame =
            tagged(&[ether_type::SERVICE_VLAN, ether_type::VLAN], ether_type::IPV4, &[0x45]);
        assert_eq!(frame[12..], [0x88, 0xa8, 0, 100, 0x81, 0x00, 0, 101, 0x08, 0x00, 0x45]);
    }
}
