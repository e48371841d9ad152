//! A second parser, written from the RFCs for clarity instead of speed. It shares no code with the
//! product's parser.
//!
//! It works from the front of the frame: every layer passes on the slice behind it, cut to the
//! length in its header, so that neither padding nor missing bytes can be read. If the two parsers
//! disagree, one of them is wrong.

mod headers;
mod tunnel;

use observer_ebpf::{
    abi::{NonIpKind, Note},
    packet::{Link, Offload},
};

pub(crate) use self::headers::Fragment;
use self::{
    headers::{Datagram, Transport, ethernet, ipv4, ipv6, transport},
    tunnel::{Hidden, tunnel},
};
use super::{Input, Outcome};

/// The result of the second parser.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The outcome of the packet alone: a later fragment has no first one.
    pub(crate) outcome: Outcome,
    /// Offset of the IP header in the frame.
    pub(crate) network_at: usize,
    /// Its fragmentation.
    pub(crate) fragment: Fragment,
    /// Readable bytes behind the last followed header: transport header and payload.
    pub(crate) payload: usize,
    /// Number of extension headers that were followed.
    pub(crate) extensions: usize,
}

/// Parses a frame.
pub(crate) fn read(input: &Input) -> Reading {
    let (ether_type, packet) = match input.frame.link {
        Link::Bare(ether_type) => (ether_type, &input.bytes[..]),
        Link::Ethernet => match ethernet(&input.bytes, input.frame.tags_beside) {
            Ok(it) => it,
            Err(kind) => return not_ip(kind),
        },
    };
    let network_at = input.bytes.len() - packet.len();
    // The length behind the link header, captured or not.
    let reported = (input.frame.len as usize).saturating_sub(network_at);
    let offload = input.frame.offload;
    let datagram = match ether_type {
        0x0800 => ipv4(packet, reported, offload),
        0x86dd => ipv6(packet, reported, offload),
        0x0806 => return not_ip(NonIpKind::Arp),
        _ => return not_ip(NonIpKind::Other),
    };
    match datagram {
        Ok(datagram) => Reading {
            outcome: datagram.outcome(offload),
            network_at,
            fragment: datagram.fragment,
            payload: datagram.payload.len(),
            extensions: datagram.extensions,
        },
        Err(reason) => {
            let packets = u64::from(offload.segments.max(1));
            let outcome = Outcome::Lost { reason, packets, bytes: reported as u64 };
            Reading { network_at, ..nothing(outcome) }
        }
    }
}

fn not_ip(kind: NonIpKind) -> Reading {
    nothing(Outcome::NonIp { kind })
}

fn nothing(outcome: Outcome) -> Reading {
    Reading { outcome, network_at: 0, fragment: Fragment::None, payload: 0, extensions: 0 }
}

impl Datagram<'_> {
    fn outcome(&self, offload: Offload) -> Outcome {
        let transport = match self.note {
            None => transport(self.protocol, self.payload),
            note => Transport { note, ..Transport::default() },
        };
        let mut headers = self.headers + transport.length;
        let mut note = transport.note;
        if offload.size != 0 && note.is_none() {
            let behind = self.payload.get(transport.length..).unwrap_or_default();
            let length = self.length.saturating_sub(headers);
            match tunnel(self.protocol, transport.ports.1, behind, length) {
                None => {}
                Some(Ok(inside))
                    if offload.size != 0xffff && inside.length <= offload.size as usize => {}
                Some(Ok(inside)) => headers += inside.headers,
                Some(Err(Hidden)) => note = Some(Note::TunnelUnread),
            }
        }
        let (packets, bytes) = on_the_wire(self.length, headers, offload);
        Outcome::Flow {
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_port: transport.ports.0,
            destination_port: transport.ports.1,
            icmp: transport.icmp,
            tcp_flags: transport.tcp_flags,
            packets,
            bytes,
            note,
        }
    }
}

/// Packets and bytes: each segment of a super-packet has its part of the payload and all headers.
fn on_the_wire(length: usize, headers: usize, offload: Offload) -> (u64, u64) {
    let payload = length.saturating_sub(headers);
    let packets = match (offload.size, offload.segments) {
        // Not a super-packet; or segments of unknown number and different sizes: at least one.
        (0, _) | (0xffff, 0) => 1,
        (size, 0) => (payload as u64).div_ceil(size.into()).max(1),
        (_, segments) => segments.into(),
    };
    (packets, length as u64 + (packets - 1) * headers as u64)
}
