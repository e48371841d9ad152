//! Super-packets: with segmentation or receive offload a host captures one large packet in place of
//! several on the wire.
//!
//! A capture does not contain the segment size, which the programs need. For TCP it follows from
//! the handshake: no segment is larger than the MSS that the receiver announced, and none is larger
//! than the MTU, which follows from the MSS that the host itself announced. Without a SYN in the
//! capture, for UDP and in tunnels, the segment size is a guess by the MTU.
//!
//! Lengths are those in the IP header. Bytes after the packet (padding, a frame check sequence,
//! trailers of switches) do not count.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use observer_ebpf::packet::{Frame, Layout, Link, Offload, Packet, Part, end_in_tunnel, layout};

use crate::flow::InterfaceNumber;

/// Relation of a captured packet to the packets on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One packet on the wire.
    Single,
    /// One packet on the wire, although longer than the MTU.
    Jumbo,
    /// Segments with this payload in bytes, by the MSS of the connection.
    Negotiated(u32),
    /// Segments with this payload in bytes, by the MTU.
    Guessed(u32),
}

impl Shape {
    /// `gso_size`: payload per segment in bytes; 0 for a single packet.
    pub(super) const fn segment(self) -> u32 {
        match self {
            Self::Single | Self::Jumbo => 0,
            Self::Negotiated(size) | Self::Guessed(size) => size,
        }
    }
}

/// MSS values and MTUs learned from a capture.
#[derive(Debug)]
pub(super) struct Segments {
    /// MTU that the user gave.
    mtu: Option<u32>,
    /// Smallest announced MSS. Shorter packets are never super-packets.
    least_mss: u32,
    /// MTU of each interface, derived from the largest MSS that its own side announced.
    largest: HashMap<InterfaceNumber, u32, RandomState>,
    announced: HashMap<Sender, Announcement, RandomState>,
}

/// The MSS that one end of a connection announced in its SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    /// MSS: largest payload that this end accepts, with headers without options.
    mss: u16,
    /// MTU of this end's link, derived from the MSS; at least Ethernet's, because routers may lower
    /// the MSS of a SYN.
    mtu: u32,
}

/// One end of a connection, as the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sender {
    interface: InterfaceNumber,
    source: [u64; 2],
    destination: [u64; 2],
    ports: (u16, u16),
}

/// MTU of Ethernet without jumbo frames, in bytes.
const ETHERNET_MTU: u32 = 1500;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_HEADER: u32 = 20;
const SYN: u8 = 2;
/// Largest number of connection ends that are kept, so that a port scan cannot exhaust memory.
/// Segment sizes of further connections are guessed.
const MAX_CONNECTIONS: usize = 1 << 20;

impl Segments {
    /// Nothing learned yet. `mtu` is the one that the user gave.
    pub(super) fn new(mtu: Option<u32>) -> Self {
        Self {
            mtu,
            least_mss: u32::MAX,
            largest: HashMap::default(),
            announced: HashMap::default(),
        }
    }

    /// The shape of a packet. `bytes` is the captured part of its frame, and `len` the frame's
    /// original length. `own` is true if the interface's side sent it. Learns from SYNs.
    pub(super) fn shape(
        &mut self,
        interface: InterfaceNumber,
        own: bool,
        packet: &Packet,
        bytes: &[u8],
        len: u32,
    ) -> Shape {
        if packet.protocol == TCP && packet.tcp_flags & SYN != 0 {
            self.learn(interface, own, packet, bytes);
        }
        // Fast path of nearly all packets: shorter than any MTU and any MSS.
        if len < self.mtu.unwrap_or(ETHERNET_MTU).min(self.least_mss) {
            return Shape::Single;
        }
        let Some(layout) = layout(bytes, Link::Ethernet) else { return Shape::Single };
        if packet.protocol == TCP && packet.fragment.part == Part::Whole {
            self.of_tcp(interface, own, packet, layout)
        } else {
            self.of_others(interface, packet, bytes, (layout, len))
        }
    }

    fn of_tcp(
        &self,
        interface: InterfaceNumber,
        own: bool,
        packet: &Packet,
        layout: Layout,
    ) -> Shape {
        let headers = layout.payload - layout.network;
        let options = (layout.payload - layout.transport).saturating_sub(TCP_HEADER);
        let payload = (packet.wire.bytes as u32).saturating_sub(headers);
        let announced = |sender| self.announced.get(&sender).copied();
        match announced(Sender::receiver_of(interface, packet)) {
            Some(theirs) if u32::from(theirs.mss) > options => {
                let of_sender = announced(Sender::of(interface, packet)).map(|sender| sender.mtu);
                // The MTU that the user gave takes precedence for the interface's own side.
                let of_sender = of_sender.filter(|_| !own || self.mtu.is_none());
                let of_interface = self.mtu.or_else(|| self.known_mtu(interface));
                let mtu = [of_interface, of_sender].into_iter().flatten().min();
                let by_mtu = mtu.map_or(u32::MAX, |mtu| mtu.saturating_sub(headers));
                let size = by_mtu.min(u32::from(theirs.mss) - options);
                if payload > size && size != 0 { Shape::Negotiated(size) } else { Shape::Single }
            }
            _ => {
                let mtu = self.mtu_of(interface);
                let size = mtu.saturating_sub(headers);
                let is_long = packet.wire.bytes > u64::from(mtu);
                if is_long && size != 0 { Shape::Guessed(size) } else { Shape::Single }
            }
        }
    }

    fn of_others(
        &self,
        interface: InterfaceNumber,
        packet: &Packet,
        bytes: &[u8],
        (layout, len): (Layout, u32),
    ) -> Shape {
        let mtu = self.mtu_of(interface);
        if packet.wire.bytes <= u64::from(mtu) {
            return Shape::Single;
        }
        if packet.fragment.part != Part::Whole {
            return Shape::Jumbo;
        }
        let payload_size = |headers_end: u32| mtu.saturating_sub(headers_end - layout.network);
        let guessed = |size| if size == 0 { Shape::Jumbo } else { Shape::Guessed(size) };
        let offload = Offload { size: payload_size(layout.payload), segments: 0 };
        let frame = Frame { len, link: Link::Ethernet, tags_beside: 0, offload };
        match end_in_tunnel(bytes, frame) {
            Some(headers_end) => guessed(payload_size(headers_end)),
            None if packet.protocol == UDP => guessed(payload_size(layout.payload)),
            None => Shape::Jumbo,
        }
    }

    /// MTU of an interface in bytes: the one that the user gave, or else learned, or else
    /// Ethernet's.
    pub(super) fn mtu_of(&self, interface: InterfaceNumber) -> u32 {
        self.mtu.or_else(|| self.known_mtu(interface)).unwrap_or(ETHERNET_MTU)
    }

    /// MTU learned from the MSS that the interface's own side announced.
    fn known_mtu(&self, interface: InterfaceNumber) -> Option<u32> {
        self.largest.get(&interface).copied()
    }

    fn learn(&mut self, interface: InterfaceNumber, own: bool, packet: &Packet, bytes: &[u8]) {
        let Some(layout) = layout(bytes, Link::Ethernet) else { return };
        let Some(mss) = announcement(bytes, layout) else { return };
        let headers = layout.transport - layout.network + TCP_HEADER;
        let mtu = ETHERNET_MTU.max(u32::from(mss) + headers);
        let sender = Sender::of(interface, packet);
        if self.announced.len() < MAX_CONNECTIONS || self.announced.contains_key(&sender) {
            self.announced.insert(sender, Announcement { mss, mtu });
            self.least_mss = self.least_mss.min(mss.into());
        }
        if own {
            let largest = self.largest.entry(interface).or_default();
            *largest = (*largest).max(mtu);
        }
    }
}

impl Sender {
    fn of(interface: InterfaceNumber, packet: &Packet) -> Self {
        Self {
            interface,
            source: packet.source,
            destination: packet.destination,
            ports: (packet.source_port_be, packet.destination_port_be),
        }
    }

    fn receiver_of(interface: InterfaceNumber, packet: &Packet) -> Self {
        Self {
            interface,
            source: packet.destination,
            destination: packet.source,
            ports: (packet.destination_port_be, packet.source_port_be),
        }
    }
}

/// The MSS option of a SYN (RFC 9293, 3.7.1); `None` if there is none or the options are invalid.
fn announcement(bytes: &[u8], layout: Layout) -> Option<u16> {
    const END: u8 = 0;
    const NOTHING: u8 = 1;
    const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    let begin = (layout.transport + TCP_HEADER) as usize;
    let end = bytes.len().min(layout.payload as usize);
    let mut options = bytes.get(begin..end)?;
    loop {
        match *options {
            [NOTHING, ref rest @ ..] => options = rest,
            [MAXIMUM_SEGMENT_SIZE, 4, high, low, ..] => {
                return Some(u16::from_be_bytes([high, low])).filter(|mss| *mss != 0);
            }
            [] | [END, ..] => return None,
            [_, len, ..] if len >= 2 => options = options.get(usize::from(len)..)?,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests;
