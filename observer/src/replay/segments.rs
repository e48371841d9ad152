//! Super-packets: what a host with segmentation or receive offload captures in place of the packets on the wire.
//!
//! A capture does not say how large the segments were, and the programs must be told. For TCP the handshake tells: no
//! segment is larger than the receiver's announcement, and none is larger than the MTU, which is known by the
//! announcements that a host makes itself. Where the capture has no SYN, for UDP and in tunnels, the MTU is a guess.
//!
//! Lengths are those of the IP header. What follows the packet in its frame (padding, a frame check sequence, trailers of
//! switches) is no part of it.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use observer_ebpf::packet::{Frame, Layout, Link, Offload, Packet, Part, end_in_tunnel, layout};

use crate::flow::InterfaceNumber;

/// How many packets a captured one was on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// One packet on the wire.
    Single,
    /// One packet that is longer than the MTU.
    Jumbo,
    /// Segments with this much payload, by what the connection agreed on.
    Agreed(u32),
    /// Segments with this much payload, by the MTU.
    Guessed(u32),
}

impl Shape {
    /// `gso_size`: payload bytes per segment, 0 for a packet of its own.
    pub(super) const fn segment(self) -> u32 {
        match self {
            Self::Single | Self::Jumbo => 0,
            Self::Agreed(size) | Self::Guessed(size) => size,
        }
    }
}

/// What is known of segment sizes.
#[derive(Debug)]
pub(super) struct Segments {
    /// What the user said.
    mtu: Option<u32>,
    /// The least that a connection announced: no packet with less payload needs a look.
    least_mss: u32,
    /// The MTU that the largest announcement of an interface's own side comes to.
    largest: HashMap<InterfaceNumber, u32, RandomState>,
    announced: HashMap<Sender, Announcement, RandomState>,
}

/// What one end of a connection said of segments when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Announcement {
    /// The largest payload that it takes, behind headers without options. Binds the other end.
    mss: u16,
    /// The MTU that this comes to, which is that of its own link; but Ethernet's at least, for announcements are
    /// lowered on the way, too.
    mtu: u32,
}

/// One end of a connection, sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sender {
    interface: InterfaceNumber,
    source: [u64; 2],
    destination: [u64; 2],
    ports: (u16, u16),
}

/// What Ethernet carries, where nobody says otherwise.
const ETHERNET_MTU: u32 = 1500;
const TCP: u8 = 6;
const UDP: u8 = 17;
const TCP_HEADER: u32 = 20;
const SYN: u8 = 2;
/// Connections that are remembered. A scan of all ports must not take all memory; what it drives out is guessed.
const MAX_CONNECTIONS: usize = 1 << 20;

impl Segments {
    pub(super) fn new(mtu: Option<u32>) -> Self {
        Self { mtu, least_mss: u32::MAX, largest: HashMap::default(), announced: HashMap::default() }
    }

    /// How many packets a captured one was on the wire. `bytes` of its frame were captured, which was `len` bytes long.
    /// Learns from SYNs. `own` are those that the interface's side sends.
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
        // Shorter than any MTU and any announced payload: the way of nearly all.
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

    fn of_tcp(&self, interface: InterfaceNumber, own: bool, packet: &Packet, layout: Layout) -> Shape {
        let headers = layout.payload - layout.network;
        let options = (layout.payload - layout.transport).saturating_sub(TCP_HEADER);
        let payload = (packet.wire.bytes as u32).saturating_sub(headers);
        let announced = |sender| self.announced.get(&sender).copied();
        match announced(Sender::receiver_of(interface, packet)) {
            Some(theirs) if u32::from(theirs.mss) > options => {
                let of_sender = announced(Sender::of(interface, packet)).map(|sender| sender.mtu);
                // What the user says of the interface is what its own side goes by.
                let of_sender = of_sender.filter(|_| !own || self.mtu.is_none());
                let of_interface = self.mtu.or_else(|| self.known_mtu(interface));
                let mtu = [of_interface, of_sender].into_iter().flatten().min();
                let by_mtu = mtu.map_or(u32::MAX, |mtu| mtu.saturating_sub(headers));
                let size = by_mtu.min(u32::from(theirs.mss) - options);
                if payload > size && size != 0 { Shape::Agreed(size) } else { Shape::Single }
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
        let behind = |headers_end: u32| mtu.saturating_sub(headers_end - layout.network);
        let guessed = |size| if size == 0 { Shape::Jumbo } else { Shape::Guessed(size) };
        let offload = Offload { size: behind(layout.payload), segments: 0 };
        let frame = Frame { len, link: Link::Ethernet, tags_beside: 0, offload };
        match end_in_tunnel(bytes, frame) {
            Some(headers_end) => guessed(behind(headers_end)),
            None if packet.protocol == UDP => guessed(behind(layout.payload)),
            None => Shape::Jumbo,
        }
    }

    /// The MTU of an interface: what the user said, else what its own side announced, but Ethernet's at least.
    pub(super) fn mtu_of(&self, interface: InterfaceNumber) -> u32 {
        self.mtu.or_else(|| self.known_mtu(interface)).unwrap_or(ETHERNET_MTU)
    }

    /// The same where its own side has announced any.
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

/// The maximum segment size among the options of a SYN (RFC 9293, 3.7.1).
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
mod tests {
    use observer_ebpf::packet::parse;

    use super::*;

    /// A TCP segment between two hosts, of which 1 announces 1,460 and 2 announces 8,960; all of it but the payload.
    fn segment(from: u8, to: u8, flags: u8, options: &[u8], payload: u32) -> (Vec<u8>, u32) {
        let header = 20 + options.len() as u8;
        let total = (20 + u32::from(header) + payload).min(65535) as u16;
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, TCP, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
        bytes.extend([0, from, 0, to, 0, 0, 0, 0, 0, 0, 0, 0, (header / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
        bytes.extend(options);
        let len = 14 + 20 + u32::from(header) + payload;
        (bytes, len)
    }

    const INTERFACE: InterfaceNumber = InterfaceNumber::new(1);

    fn shape(segments: &mut Segments, own: bool, (bytes, len): &(Vec<u8>, u32)) -> Shape {
        let frame = Frame { len: *len, link: Link::Ethernet, tags_beside: 0, offload: Offload::default() };
        let packet = parse(&bytes[..], frame).unwrap();
        segments.shape(INTERFACE, own, &packet, bytes, *len)
    }

    fn connected() -> Segments {
        let mut segments = Segments::new(None);
        // behind a window scale and two fillers
        let options = [3, 3, 7, 1, 1, 2, 4, 5, 180, 0, 0, 0];
        shape(&mut segments, true, &segment(1, 2, SYN, &options, 0));
        shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 35, 0], 0));
        segments
    }

    #[test]
    fn segments_are_as_large_as_both_ends_allow() {
        let mut segments = connected();
        for (from, to) in [(1, 2), (2, 1)] {
            let mut of = |options: &[u8], payload| {
                shape(&mut segments, from == 1, &segment(from, to, 16, options, payload))
            };
            assert_eq!(of(&[], 1460), Shape::Single);
            assert_eq!(of(&[], 1461), Shape::Agreed(1460));
            assert_eq!(of(&[1; 12], 20_000), Shape::Agreed(1448), "options take from the payload");
            assert_eq!(of(&[1; 12], 1449), Shape::Agreed(1448), "shorter than the MTU");
        }
    }

    /// The MSS option says what its sender takes (RFC 9293, 3.7.1), not what it sends.
    #[test]
    fn an_announcement_does_not_bind_its_own_sender() {
        let mut segments = Segments::new(None);
        shape(&mut segments, true, &segment(1, 2, SYN, &[2, 4, 2, 24], 0));
        shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 5, 180], 0));
        assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 1460)), Shape::Single);
        assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 1461)), Shape::Agreed(1460));
        assert_eq!(shape(&mut segments, false, &segment(2, 1, 16, &[], 537)), Shape::Agreed(536));
    }

    #[test]
    fn what_follows_a_packet_in_its_frame_is_no_payload() {
        let mut segments = connected();
        for trailer in [1, 4, 46, 60_000] {
            let (bytes, len) = segment(2, 1, 16, &[], 1460);
            assert_eq!(shape(&mut segments, false, &(bytes, len + trailer)), Shape::Single, "{trailer}");
            let (bytes, len) = segment(1, 9, 17, &[], 0);
            assert_eq!(shape(&mut segments, true, &(bytes, len + trailer)), Shape::Single, "{trailer}");
        }
    }

    #[test]
    fn small_segments_are_found_below_the_mtu() {
        let mut segments = Segments::new(None);
        shape(&mut segments, true, &segment(1, 2, SYN, &[2, 4, 2, 24], 0));
        shape(&mut segments, false, &segment(2, 1, SYN | 16, &[2, 4, 2, 24], 0));
        assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 537)), Shape::Agreed(536));
        assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 536)), Shape::Single);
    }

    #[test]
    fn without_a_syn_the_mtu_is_the_guess() {
        let mut segments = Segments::new(None);
        let long = segment(3, 4, 16, &[1; 12], 5000);
        assert_eq!(shape(&mut segments, true, &long), Shape::Guessed(1448));
        assert_eq!(shape(&mut segments, true, &segment(3, 4, 16, &[1; 12], 1448)), Shape::Single);
        assert_eq!(shape(&mut Segments::new(Some(9001)), true, &long), Shape::Single);
        assert_eq!(
            shape(&mut Segments::new(Some(9001)), true, &segment(3, 4, 16, &[], 9000)),
            Shape::Guessed(8961)
        );
    }

    /// A TCP segment in GRE, or in VXLAN.
    fn tunnelled(protocol: u8, payload: u32) -> (Vec<u8>, u32) {
        let (inside, inside_len) = segment(1, 2, 16, &[1; 12], payload);
        let (header, inside, inside_len) = if protocol == UDP {
            (vec![0, 9, 18, 181, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 7, 0], &inside[..], inside_len)
        } else {
            (vec![0, 0, 8, 0], &inside[14..], inside_len - 14)
        };
        let len = 14 + 20 + header.len() as u32 + inside_len;
        let mut bytes = vec![0; 12];
        bytes.extend([8, 0, 0x45, 0]);
        bytes.extend(((len - 14) as u16).to_be_bytes());
        bytes.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(header);
        bytes.extend(inside);
        (bytes, len)
    }

    #[test]
    fn segments_in_a_tunnel_leave_room_for_all_headers() {
        const GRE: u8 = 47;
        let mut segments = Segments::new(None);
        let mut of = |protocol, payload| shape(&mut segments, true, &tunnelled(protocol, payload));
        let (in_vxlan, in_gre) = (1500 - 20 - 16 - 14 - 52, 1500 - 20 - 4 - 52);
        assert_eq!(of(UDP, in_vxlan), Shape::Single);
        assert_eq!(of(UDP, 20_000), Shape::Guessed(in_vxlan));
        assert_eq!(of(GRE, in_gre), Shape::Single);
        assert_eq!(of(GRE, 20_000), Shape::Guessed(in_gre));
        assert_eq!(of(50, 20_000), Shape::Jumbo, "what is encrypted is one packet");
    }

    /// What a program has cut itself is in segments of UDP, each of them with a packet of its own.
    #[test]
    fn a_tunnel_of_a_program_has_segments_of_udp() {
        let mut segments = Segments::new(None);
        let (mut bytes, _) = tunnelled(UDP, 1000);
        let l3_bytes: u16 = 28 + 5 * 1122;
        bytes[16..18].copy_from_slice(&l3_bytes.to_be_bytes());
        let datagrams = (bytes, 14 + u32::from(l3_bytes));
        assert_eq!(shape(&mut segments, true, &datagrams), Shape::Guessed(1472));
    }

    #[test]
    fn an_interface_that_announces_large_segments_has_a_large_mtu() {
        let mut segments = Segments::new(None);
        shape(&mut segments, false, &segment(9, 1, SYN, &[2, 4, 35, 0], 0));
        assert_eq!(segments.mtu_of(INTERFACE), 1500, "the other end's is no matter");
        shape(&mut segments, true, &segment(1, 9, SYN | 16, &[2, 4, 35, 0], 0));
        assert_eq!(segments.mtu_of(INTERFACE), 9000);
        assert_eq!(shape(&mut segments, true, &segment(3, 4, 16, &[], 8960)), Shape::Single);
    }

    #[test]
    fn a_larger_mtu_than_the_user_said_is_none() {
        let mut segments = Segments { mtu: Some(1400), ..connected() };
        assert_eq!(shape(&mut segments, true, &segment(1, 2, 16, &[], 5000)), Shape::Agreed(1360));
    }

    #[test]
    fn options_that_are_cut_or_unsound_announce_nothing() {
        for options in [&[2, 4, 5][..], &[3, 0, 2, 4, 5, 180], &[0, 2, 4, 5, 180], &[2, 4, 0, 0], &[8, 10, 0]]
        {
            let mut segments = Segments::new(None);
            let mut padded = options.to_vec();
            padded.resize(options.len().next_multiple_of(4), 0);
            let (mut bytes, len) = segment(1, 2, SYN, &padded, 0);
            bytes.truncate(54 + options.len());
            shape(&mut segments, true, &(bytes, len));
            assert!(segments.announced.is_empty(), "{options:?}");
        }
    }
}
