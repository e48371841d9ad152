//! The packet parser, generic over the source of bytes.
//!
//! Owns: finding a frame's flow. In: bytes behind [`PacketBytes`], and the kernel's metadata of the
//! frame ([`Frame`]). Out: a [`Packet`] to account, or a [`Skip`] to count. It never guesses:
//! unreadable parts are reported.
//!
//! Every read is bounded and nothing is allocated, so that the kernel's verifier accepts the same
//! code that the unit tests and the fuzzer run.

mod bytes;
mod ethernet;
mod frame;
mod ipv4;
mod ipv6;
mod network;
mod segments;
mod transport;
mod tunnel;

pub use bytes::PacketBytes;
pub use ethernet::MAX_VLAN_TAGS;
pub use frame::{Fragment, Frame, Link, Packet, Part, Skip};
pub use ipv6::MAX_EXTENSION_HEADERS;
pub use segments::{Offload, Wire};

use crate::abi::{NonIpKind, Note};
use network::{Extent, Network, Unreadable};
use tunnel::Tunnel;

/// Parses a plain frame: Ethernet, a whole IP packet, no chains of headers, no super-packet. Nearly
/// every packet is plain, and this path is short. [`parse`] handles all others.
#[inline(always)]
pub fn parse_plain<B: PacketBytes + ?Sized>(bytes: &B, frame: Frame) -> Option<Packet> {
    if frame.offload.size != 0 || frame.link != Link::Ethernet {
        return None;
    }
    let offload = Offload { size: 0, segments: 0 };
    let plain = Frame { len: frame.len, link: Link::Ethernet, tags_beside: 0, offload };
    parse(bytes, plain)
        .ok()
        .filter(|packet| packet.note.is_none() && packet.fragment.part == Part::Whole)
}

/// Parses a frame.
#[inline(always)]
pub fn parse<B: PacketBytes + ?Sized>(bytes: &B, frame: Frame) -> Result<Packet, Skip> {
    let (mut network, l3) = network(bytes, frame)?;
    let end = l3 + network.l3_bytes;
    let mut transport = match network.note {
        None => transport::read(bytes, network.protocol, network.transport, end),
        Some(note) => transport::Transport::unread(network.transport, note),
    };
    if frame.offload.size != 0 && transport.note.is_none() {
        network.forget(bytes);
        transport.forget(bytes);
        match tunnel::look(bytes, (&network, l3), frame.offload.size) {
            Tunnel::NONE => {}
            Tunnel::UNREAD => transport.note = Some(Note::TunnelUnread),
            headers => transport.end = headers.end(),
        }
    }
    let headers = transport.end.wrapping_sub(l3);
    let wire = frame.offload.wire(network.l3_bytes, headers);
    Ok(Packet {
        family: network.family,
        source: network.source,
        destination: network.destination,
        source_port_be: transport.source_port_be,
        destination_port_be: transport.destination_port_be,
        protocol: network.protocol,
        tcp_flags: transport.tcp_flags,
        headers,
        wire,
        beyond_frame: wire.beyond(network.l3_bytes),
        fragment: network.fragment,
        note: transport.note,
    })
}

/// Reads the headers before the transport header; returns them and the offset of the IP header.
#[inline(always)]
fn network<B: PacketBytes + ?Sized>(bytes: &B, frame: Frame) -> Result<(Network, u32), Skip> {
    let (ether_type, l3) = match frame.link {
        Link::Ethernet => ethernet::payload(bytes, 0, frame.tags_beside)?,
        Link::Bare(ether_type) => (ether_type, 0),
    };
    let l3 = bytes.forget(l3);
    let lost = |reason| Skip::Lost(reason, frame.offload.unparsed(frame.len.saturating_sub(l3)));
    let extent =
        Extent { behind_link: frame.len.wrapping_sub(l3), is_super: frame.offload.size != 0 };
    let network = match ether_type {
        ethernet::IPV4 => ipv4::read(bytes, l3, extent),
        ethernet::IPV6 => ipv6::read(bytes, l3, extent),
        ethernet::ARP => return Err(Skip::NonIp(NonIpKind::Arp)),
        _ => return Err(Skip::NonIp(NonIpKind::Other)),
    };
    match network {
        Ok(network) => Ok((network, l3)),
        Err(Unreadable::Lost(reason)) => Err(lost(reason)),
        Err(Unreadable::Chain) => Err(Skip::Chain),
    }
}

/// Offsets of the headers of a packet in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Offset of the IP header.
    pub network: u32,
    /// Offset of the transport header.
    pub transport: u32,
    /// Offset of the first byte behind the headers.
    pub payload: u32,
}

/// Offsets of the headers of a packet that [`parse`] accepts. For readers in user space that need
/// further fields.
pub fn layout(bytes: &[u8], link: Link) -> Option<Layout> {
    let (ether_type, l3) = match link {
        Link::Ethernet => ethernet::payload(bytes, 0, 0).ok()?,
        Link::Bare(ether_type) => (ether_type, 0),
    };
    // The header's length is ignored: a super-packet has another one, and a capture may have
    // truncated the packet.
    let extent = Extent { behind_link: (bytes.len() as u32).saturating_sub(l3), is_super: true };
    let network = match ether_type {
        ethernet::IPV4 => ipv4::read(bytes, l3, extent),
        ethernet::IPV6 => ipv6::read(bytes, l3, extent),
        _ => return None,
    };
    let network = network.ok()?;
    let payload = match network.note {
        None => {
            transport::read(bytes, network.protocol, network.transport, l3 + network.l3_bytes).end
        }
        Some(_) => network.transport,
    };
    Some(Layout { network: l3, transport: network.transport, payload })
}

/// Offset of the end of the headers that each segment of a super-packet in a tunnel repeats; `None`
/// outside of tunnels, or if [`parse`] cannot read the tunnel. For estimates of the segments' size.
pub fn end_in_tunnel(bytes: &[u8], frame: Frame) -> Option<u32> {
    let outer = network(bytes, frame).ok()?;
    match tunnel::look(bytes, (&outer.0, outer.1), frame.offload.size) {
        Tunnel::NONE | Tunnel::UNREAD => None,
        headers => Some(headers.end()),
    }
}
