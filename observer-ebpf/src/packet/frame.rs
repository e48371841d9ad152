//! Input and output types of the parser.

use super::segments::{Offload, Wire};
use crate::abi::{Family, LossReason, NonIpKind, Note};

/// Metadata of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Length from the link header on, in bytes: `skb->len`.
    pub len: u32,
    /// The layer below IP.
    pub link: Link,
    /// Number of VLAN tags outside of its bytes: 1 if the kernel has moved the outer one to
    /// `skb->vlan_tci`.
    pub tags_beside: u32,
    /// Segmentation of a GSO or GRO super-packet, whose IP header does not give its length.
    pub offload: Offload,
}

/// The layer below IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, with optional VLAN tags.
    Ethernet,
    /// None: the interface carries bare IP of this EtherType (`skb->protocol`), as tun and
    /// WireGuard do.
    Bare(u16),
}

/// A parsed IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// IP version, which the addresses alone do not tell.
    pub family: Family,
    /// Source address in network byte order, 16 bytes, IPv4 mapped into IPv6.
    pub source: [u64; 2],
    /// Destination address, in the same form.
    pub destination: [u64; 2],
    /// Source port in network byte order; type and code for ICMP and ICMPv6; otherwise 0.
    pub source_port_be: u16,
    /// Destination port in network byte order; for ICMP and ICMPv6 not 0 if type and code were
    /// read; otherwise 0.
    pub destination_port_be: u16,
    /// IANA protocol number of the transport header.
    pub protocol: u8,
    /// The eight TCP flags; 0 for other protocols.
    pub tcp_flags: u8,
    /// Bytes of all headers from the IP header on.
    pub headers: u32,
    /// Packets and bytes as on the wire.
    pub wire: Wire,
    /// The difference between `wire` and one packet with the bytes of the frame: not 0 for
    /// super-packets only.
    pub beyond_frame: Wire,
    /// Its place in a fragmented packet.
    pub fragment: Fragment,
    /// A problem with the packet; its counts are valid.
    pub note: Option<Note>,
}

/// Position of a packet in a fragmented one.
///
/// Not an enum with data: for the undefined bytes of an enum the compiler reads registers that were
/// never written, which the verifier refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// First, later, or not fragmented.
    pub part: Part,
    /// Identification, the same in all fragments of a packet and unique between two addresses; for
    /// IPv4 it includes the protocol. 0 for a whole packet.
    pub id: u32,
}

/// Kinds of fragments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Not a fragment.
    #[default]
    Whole,
    /// The fragment with the transport header.
    First,
    /// Any other fragment.
    Later,
}

/// Reasons why a frame is in no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Not an IP packet.
    NonIp(NonIpKind),
    /// An IP packet with an invalid header; its packets and bytes on the wire.
    Lost(LossReason, Wire),
    /// A chain of headers that this reader does not follow.
    Chain,
}
