//! The one packet parser, generic over how bytes are read.
//!
//! Owns: what a frame says about its flow. In: bytes behind [`PacketBytes`] and what the kernel knows of the frame
//! ([`Frame`]). Out: a [`Packet`] to account, or a [`Skip`] to count. It never guesses: what it cannot read it says.
//!
//! Every read is bounded and nothing is allocated, so that the kernel's verifier accepts the same lines that the
//! unit tests and the fuzzer run.

mod ethernet;
mod ipv4;
mod ipv6;
mod segments;
mod transport;
mod tunnel;

pub use ethernet::MAX_VLAN_TAGS;
pub use ipv6::MAX_EXTENSION_HEADERS;
pub use segments::{Offload, Wire};

use crate::abi::{Family, LossReason, NonIpKind, Note};
use tunnel::Tunnel;

/// Bytes of one frame, from its link header on.
pub trait PacketBytes {
    /// Whether headers of varying number are followed: VLAN tags and IPv6 extension headers. A reader that does not
    /// gets [`Skip::Chain`] for them, and keeps the way of all other packets short.
    const FOLLOWS_CHAINS: bool;

    /// The `N` bytes at `offset`, or `None` where they cannot all be read.
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]>;

    /// The same value. In the kernel, one of whose history the verifier knows nothing: without it every way to reach
    /// a header of a chain is verified apart, and their number doubles with each header.
    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        value
    }

    /// The same of a longer one.
    #[inline(always)]
    fn forget_long(&self, value: u64) -> u64 {
        value
    }
}

impl PacketBytes for [u8] {
    const FOLLOWS_CHAINS: bool = true;

    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        self.get(offset as usize..)?.first_chunk()
    }
}

/// What is known of a frame beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Length from the link header on, in bytes: `skb->len`.
    pub len: u32,
    /// What stands before the IP header.
    pub link: Link,
    /// VLAN tags that are not among its bytes: 1 where the kernel has put the outer one into `skb->vlan_tci`.
    pub tags_beside: u32,
    /// Whether it is a GSO or GRO super-packet: the lengths in its IP header say nothing then.
    pub offload: Offload,
}

/// What stands before the IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, and perhaps VLAN tags.
    Ethernet,
    /// Nothing: the interface carries bare IP of this EtherType (`skb->protocol`), as tun and WireGuard do.
    Bare(u16),
}

/// What a frame that carries an IP packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which IP it is: addresses alone do not tell.
    pub family: Family,
    /// Source address, 16 bytes as they lie in the packet, IPv4 mapped into IPv6.
    pub source: [u64; 2],
    /// Destination address, likewise.
    pub destination: [u64; 2],
    /// First port as it lies in the packet; for ICMP and ICMPv6 type and code; else 0.
    pub source_port_be: u16,
    /// Second port as it lies in the packet; for ICMP and ICMPv6 not 0 where type and code were read; else 0.
    pub destination_port_be: u16,
    /// IANA protocol number of the transport header.
    pub protocol: u8,
    /// The eight TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Bytes of layer 3 before its payload.
    pub headers: u32,
    /// What it stands for on the wire.
    pub wire: Wire,
    /// What of that lies beyond one packet with the bytes of the frame: nothing but for super-packets.
    pub beyond_frame: Wire,
    /// Whether it is a part of a larger one.
    pub fragment: Fragment,
    /// What could not be told.
    pub note: Option<Note>,
}

/// Which part of a packet it is that was too large for some link.
///
/// Not an enum with the id in it: of what an enum leaves undefined, the compiler makes reads of registers that were
/// never written, which the verifier refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Which part.
    pub part: Part,
    /// Identification: the same in all parts of one packet, and between two addresses in no other; of IPv4 with the
    /// protocol. 0 for a whole packet.
    pub id: u32,
}

/// A whole packet, or which part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    Whole,
    /// The part with the transport header.
    First,
    /// Any other.
    Later,
}

/// Why a frame is in no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// No IP packet.
    NonIp(NonIpKind),
    /// An IP packet with an unsound header, which stands for this much on the wire.
    Lost(LossReason, Wire),
    /// A chain of headers begins that this reader does not follow.
    Chain,
}

/// Where the transport header begins and what the network header said: what `ipv4` and `ipv6` hand on.
struct Network {
    family: Family,
    source: [u64; 2],
    destination: [u64; 2],
    protocol: u8,
    /// Offset of the transport header in the frame.
    transport: u32,
    /// Bytes of layer 3: what lies behind is no part of the packet.
    l3_bytes: u32,
    fragment: Fragment,
    /// Set where there is no transport header to read.
    note: Option<Note>,
}

impl Network {
    /// See [`PacketBytes::forget`]. Of packets without a note, which are alike otherwise.
    #[inline(always)]
    fn forget<B: PacketBytes + ?Sized>(&mut self, bytes: &B) {
        // Not a branch, behind which everything would be verified twice.
        self.family = match bytes.forget(self.family as u32) & 1 {
            0 => Family::V4,
            _ => Family::V6,
        };
        self.source = [bytes.forget_long(self.source[0]), bytes.forget_long(self.source[1])];
        self.destination = [bytes.forget_long(self.destination[0]), bytes.forget_long(self.destination[1])];
        self.protocol = bytes.forget(self.protocol.into()) as u8;
        self.transport = bytes.forget(self.transport);
        self.l3_bytes = bytes.forget(self.l3_bytes);
    }
}

/// Reads one frame if it is plain: an IP packet behind an Ethernet header, whole, without chains of headers, neither
/// a fragment nor a super-packet. That is nearly every packet, and this is the short way for it; [`parse`] is the way
/// for all others.
#[inline(always)]
pub fn parse_plain<B: PacketBytes + ?Sized>(bytes: &B, frame: Frame) -> Option<Packet> {
    if frame.offload.size != 0 || frame.link != Link::Ethernet {
        return None;
    }
    let offload = Offload { size: 0, segments: 0 };
    let plain = Frame { len: frame.len, link: Link::Ethernet, tags_beside: 0, offload };
    parse(bytes, plain).ok().filter(|packet| packet.note.is_none() && packet.fragment.part == Part::Whole)
}

/// What is known of a packet's length before its header is read.
#[derive(Clone, Copy)]
struct Extent {
    /// Bytes of the frame behind its link header.
    behind_link: u32,
    /// Whether the frame is a super-packet, whose header tells the length of something else.
    is_super: bool,
}

impl Extent {
    /// Bytes of layer 3, of which the header claims so many; [`None`] where only the frame's own length tells.
    #[inline(always)]
    fn l3_bytes(self, claimed: Option<u32>) -> Result<u32, Unreadable> {
        match claimed {
            // Shorter than the frame is Ethernet padding, longer is a frame that the stack will refuse.
            Some(claimed) if !self.is_super => {
                if claimed > self.behind_link {
                    return Err(Unreadable::Lost(LossReason::IpTotalLength));
                }
                Ok(claimed)
            }
            _ => Ok(self.behind_link),
        }
    }
}

/// Why there is no [`Network`].
enum Unreadable {
    Lost(LossReason),
    Chain,
}

/// Reads one frame.
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

/// The headers before the transport header, and where the IP header begins.
#[inline(always)]
fn network<B: PacketBytes + ?Sized>(bytes: &B, frame: Frame) -> Result<(Network, u32), Skip> {
    let (ether_type, l3) = match frame.link {
        Link::Ethernet => ethernet::payload(bytes, 0, frame.tags_beside)?,
        Link::Bare(ether_type) => (ether_type, 0),
    };
    let l3 = bytes.forget(l3);
    let lost = |reason| Skip::Lost(reason, frame.offload.unparsed(frame.len.saturating_sub(l3)));
    let extent = Extent { behind_link: frame.len.wrapping_sub(l3), is_super: frame.offload.size != 0 };
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

/// Where the headers of a packet lie, as offsets in its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The IP header.
    pub network: u32,
    /// The transport header.
    pub transport: u32,
    /// What follows the headers.
    pub payload: u32,
}

/// Where the headers of a packet lie, if it is one that [`parse`] reads. For readers that want more of them than it
/// gives; the programs do not.
pub fn layout(bytes: &[u8], link: Link) -> Option<Layout> {
    let (ether_type, l3) = match link {
        Link::Ethernet => ethernet::payload(bytes, 0, 0).ok()?,
        Link::Bare(ether_type) => (ether_type, 0),
    };
    // What the header says of its length is no matter: the packet may be a super-packet, and less of it captured.
    let extent = Extent { behind_link: (bytes.len() as u32).saturating_sub(l3), is_super: true };
    let network = match ether_type {
        ethernet::IPV4 => ipv4::read(bytes, l3, extent),
        ethernet::IPV6 => ipv6::read(bytes, l3, extent),
        _ => return None,
    };
    let network = network.ok()?;
    let payload = match network.note {
        None => transport::read(bytes, network.protocol, network.transport, l3 + network.l3_bytes).end,
        Some(_) => network.transport,
    };
    Some(Layout { network: l3, transport: network.transport, payload })
}

/// Where the headers in a tunnel end that each segment of a super-packet repeats, as an offset in its frame; `None` for
/// one in no tunnel, or in one that [`parse`] cannot read. For those who must guess how large its segments were.
pub fn end_in_tunnel(bytes: &[u8], frame: Frame) -> Option<u32> {
    let outer = network(bytes, frame).ok()?;
    match tunnel::look(bytes, (&outer.0, outer.1), frame.offload.size) {
        Tunnel::NONE | Tunnel::UNREAD => None,
        headers => Some(headers.end()),
    }
}

/// The `N` bytes at `offset`, or `None` where they cannot all be read or the packet ends before: what follows it in the
/// frame is padding.
#[inline(always)]
fn within<const N: usize, B: PacketBytes + ?Sized>(bytes: &B, offset: u32, end: u32) -> Option<&[u8; N]> {
    if offset + N as u32 > end { None } else { bytes.at(offset) }
}

/// `M` bytes of a header of `N`, at a place that the compiler knows.
#[inline(always)]
const fn field<const M: usize, const N: usize>(header: &[u8; N], at: usize) -> [u8; M] {
    const { assert!(M <= N) };
    assert!(at + M <= N);
    // SAFETY: the assertion above, which the compiler removes where `at` is a constant in bounds.
    unsafe { *header.as_ptr().add(at).cast::<[u8; M]>() }
}
