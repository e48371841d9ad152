//! Super-packets: what a host with segmentation or receive offload captures in place of the packets on the wire.
//!
//! A capture does not say how large the segments were, and the programs must be told. TCP tells when it connects: no
//! segment is larger than what the receiver announced. Where the capture has no SYN, and for UDP, the MTU is a guess.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use observer_ebpf::packet::{Layout, Link, Packet, Part, layout};

use crate::flow::InterfaceNumber;

/// What a packet is taken for.
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
    announced: HashMap<Sender, u16, RandomState>,
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

    /// What a packet is taken for, of which `bytes` were captured; `len` is that of the frame. Learns from SYNs.
    /// `own` are those that the interface's side sends.
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
        let l3_bytes = len.saturating_sub(layout.network);
        let payload = len.saturating_sub(layout.payload);
        let mtu = self.mtu_of(interface);
        let is_long = l3_bytes > mtu && packet.wire.bytes > u64::from(mtu);
        let by_mtu = mtu.saturating_sub(layout.payload - layout.network);
        match packet.protocol {
            TCP if packet.fragment.part == Part::Whole => {
                let options = (layout.payload - layout.transport).saturating_sub(TCP_HEADER);
                match self.agreed(interface, packet) {
                    Some(mss) if mss > options => {
                        let size = if self.mtu.is_some() { by_mtu.min(mss - options) } else { mss - options };
                        if payload > size && size != 0 { Shape::Agreed(size) } else { Shape::Single }
                    }
                    _ if is_long && by_mtu != 0 => Shape::Guessed(by_mtu),
                    _ => Shape::Single,
                }
            }
            UDP if packet.fragment.part == Part::Whole && is_long && by_mtu != 0 => Shape::Guessed(by_mtu),
            _ if is_long => Shape::Jumbo,
            _ => Shape::Single,
        }
    }

    /// The MTU of an interface: what the user said, else what its own side announced, but Ethernet's at least.
    pub(super) fn mtu_of(&self, interface: InterfaceNumber) -> u32 {
        self.mtu.unwrap_or_else(|| {
            self.largest.get(&interface).map_or(ETHERNET_MTU, |mtu| ETHERNET_MTU.max(*mtu))
        })
    }

    /// The payload that the sender may put into a segment with a header without options.
    fn agreed(&self, interface: InterfaceNumber, packet: &Packet) -> Option<u32> {
        let theirs = self.announced.get(&Sender::receiver_of(interface, packet))?;
        let own = self.announced.get(&Sender::of(interface, packet));
        Some(own.map_or(*theirs, |own| *own.min(theirs)).into())
    }

    fn learn(&mut self, interface: InterfaceNumber, own: bool, packet: &Packet, bytes: &[u8]) {
        let Some(layout) = layout(bytes, Link::Ethernet) else { return };
        let Some(mss) = announcement(bytes, layout) else { return };
        let sender = Sender::of(interface, packet);
        if self.announced.len() < MAX_CONNECTIONS || self.announced.contains_key(&sender) {
            self.announced.insert(sender, mss);
            self.least_mss = self.least_mss.min(mss.into());
        }
        if own {
            let headers = layout.transport - layout.network + TCP_HEADER;
            let mtu = self.largest.entry(interface).or_default();
            *mtu = (*mtu).max(u32::from(mss) + headers);
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
    use observer_ebpf::packet::{Frame, Offload, parse};

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
        let frame = Frame { len: *len, link: Link::Ethernet, offload: Offload::default() };
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
