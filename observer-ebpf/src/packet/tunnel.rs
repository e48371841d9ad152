//! Super-packets in a tunnel: the kernel repeats the inner headers in every segment
//! (`skb_udp_tunnel_segment`, `gre_gso_segment`, `ipip_gso_segment`; counted so by
//! `qdisc_pkt_len_init`).
//!
//! A socket buffer has offsets for the headers of one tunnel only, so a super-packet is never in
//! two.

use super::{
    bytes::{PacketBytes, field, within},
    ethernet,
    frame::Part,
    ipv4, ipv6,
    network::{Extent, Network},
    segments::BY_FRAGMENTS,
    transport,
};

const IP_IN_IP: u8 = 4;
const IPV6: u8 = 41;
const UDP: u8 = 17;
const GRE: u8 = 47;
const ESP: u8 = 50;
const MPLS_IN_IP: u8 = 137;

/// Destination ports that Linux uses by default: IANA's, and the older one of VXLAN.
const VXLAN: u16 = 4789;
const VXLAN_OF_OLD: u16 = 8472;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;

/// EtherType of an inner Ethernet frame (Transparent Ethernet Bridging).
const ETHERNET: u16 = 0x6558;

const UDP_HEADER: u32 = 8;
const VXLAN_HEADER: u32 = 8;

/// The headers that a super-packet in a tunnel repeats in each segment beyond its outer headers. An
/// integer, so that for the verifier all paths to a value are equal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Tunnel(u32);

impl Tunnel {
    /// The packet is in no tunnel.
    pub(super) const NONE: Self = Self(0);
    /// The inner headers cannot all be read.
    pub(super) const UNREAD: Self = Self(1);

    /// Offset of the end of the inner headers, in the frame.
    pub(super) const fn end(self) -> u32 {
        self.0
    }
}

/// Finds the tunnel of a super-packet with segments of `size` bytes.
#[inline(always)]
pub(super) fn look<B: PacketBytes + ?Sized>(
    bytes: &B,
    (outer, l3): (&Network, u32),
    size: u32,
) -> Tunnel {
    let tunnel = inside(bytes, outer.protocol, (outer.transport, l3 + outer.l3_bytes), size);
    Tunnel(bytes.forget(tunnel.0))
}

/// Finds the tunnel behind the transport header of `protocol`, at `begin`, of a packet that ends at
/// `end`.
#[inline(always)]
fn inside<B: PacketBytes + ?Sized>(
    bytes: &B,
    protocol: u8,
    (begin, end): (u32, u32),
    size: u32,
) -> Tunnel {
    let inside = match protocol {
        IP_IN_IP => Some((ethernet::IPV4, begin)),
        IPV6 => Some((ethernet::IPV6, begin)),
        GRE => gre(bytes, begin, end),
        ESP | MPLS_IN_IP => None,
        UDP => {
            let Some(ports) = within::<4, B>(bytes, begin, end) else { return Tunnel::NONE };
            let behind = begin + UDP_HEADER;
            match u16::from_be_bytes(field(ports, 2)) {
                VXLAN | VXLAN_OF_OLD => Some((ETHERNET, behind + VXLAN_HEADER)),
                VXLAN_GPE => vxlan_gpe(bytes, behind, end),
                GENEVE => geneve(bytes, behind, end),
                _ => return Tunnel::NONE,
            }
        }
        _ => return Tunnel::NONE,
    };
    match inside.and_then(|inside| headers(bytes, inside, end)) {
        // UDP segmentation by the sender: each segment is a whole packet of the tunnel.
        Some(inner) if inner.l3_bytes <= size && size != BY_FRAGMENTS => Tunnel::NONE,
        Some(inner) => Tunnel(inner.end),
        None => Tunnel::UNREAD,
    }
}

/// GRE, RFC 2784 and 2890: EtherType and offset of the inner packet.
#[inline(always)]
fn gre<B: PacketBytes + ?Sized>(bytes: &B, begin: u32, end: u32) -> Option<(u16, u32)> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    /// Source routes, or a version other than 0.
    const OTHER: u16 = 0x4007;
    let header = within::<4, B>(bytes, begin, end)?;
    let flags = u16::from_be_bytes(field(header, 0));
    let options = u32::from(flags & CHECKSUM != 0)
        + u32::from(flags & KEY != 0)
        + u32::from(flags & SEQUENCE != 0);
    let ether_type = u16::from_be_bytes(field(header, 2));
    (flags & OTHER == 0).then_some((ether_type, begin + 4 + options * 4))
}

/// Geneve, RFC 8926, 3.4: EtherType and offset of the inner packet.
#[inline(always)]
fn geneve<B: PacketBytes + ?Sized>(bytes: &B, begin: u32, end: u32) -> Option<(u16, u32)> {
    let header = within::<8, B>(bytes, begin, end)?;
    let [version_and_options] = field(header, 0);
    let options = u32::from(version_and_options & 0x3f) * 4;
    let ether_type = u16::from_be_bytes(field(header, 2));
    (version_and_options >> 6 == 0).then_some((ether_type, begin + 8 + options))
}

/// VXLAN-GPE, draft-ietf-nvo3-vxlan-gpe, 3.1: VXLAN with an optional protocol of the inner packet
/// in its header.
#[inline(always)]
fn vxlan_gpe<B: PacketBytes + ?Sized>(bytes: &B, begin: u32, end: u32) -> Option<(u16, u32)> {
    const NEXT_PROTOCOL: u8 = 0x04;
    let header = within::<8, B>(bytes, begin, end)?;
    let [flags] = field(header, 0);
    let [next] = field(header, 3);
    let ether_type = match next {
        _ if flags & NEXT_PROTOCOL == 0 => ETHERNET,
        1 => ethernet::IPV4,
        2 => ethernet::IPV6,
        3 => ETHERNET,
        _ => return None,
    };
    Some((ether_type, begin + VXLAN_HEADER))
}

/// The headers of an inner packet.
struct Inner {
    /// Bytes of its layer 3.
    l3_bytes: u32,
    /// Offset of the end of its headers, in the frame.
    end: u32,
}

/// Headers of the inner packet of this EtherType at an offset; `None` if they cannot all be read.
#[inline(always)]
fn headers<B: PacketBytes + ?Sized>(
    bytes: &B,
    (ether_type, begin): (u16, u32),
    end: u32,
) -> Option<Inner> {
    let (ether_type, begin) = (bytes.forget(ether_type.into()) as u16, bytes.forget(begin));
    let (ether_type, l3) = if ether_type == ETHERNET {
        ethernet::payload(bytes, begin, 0).ok()?
    } else {
        (ether_type, begin)
    };
    let extent = Extent { behind_link: end.checked_sub(l3)?, is_super: false };
    let network = match ether_type {
        ethernet::IPV4 => ipv4::read(bytes, l3, extent),
        ethernet::IPV6 => ipv6::read(&Short(bytes), l3, extent),
        _ => return None,
    };
    let network = network.ok()?;
    if network.note.is_some() || network.fragment.part != Part::Whole {
        return None;
    }
    let l3_end = l3 + network.l3_bytes;
    let transport = transport::read(bytes, network.protocol, network.transport, l3_end);
    // Only packets with a transport header of known length are segmented.
    if transport.note.is_some() || transport.end == network.transport {
        return None;
    }
    Some(Inner { l3_bytes: network.l3_bytes, end: transport.end })
}

/// A reader that follows no chains: the kernel's own super-packets have no inner extension headers,
/// and a second walk would multiply the verifier's work.
struct Short<'a, B: ?Sized>(&'a B);

impl<B: PacketBytes + ?Sized> PacketBytes for Short<'_, B> {
    const FOLLOWS_CHAINS: bool = false;

    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        self.0.at(offset)
    }
}
