//! A second parser, written from the RFCs for clarity instead of speed. It shares no code with the
//! product's parser.
//!
//! It works from the front of the frame: every layer passes on the slice behind it, cut to the
//! length in its header, so that neither padding nor missing bytes can be read. If the two parsers
//! disagree, one of them is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use observer_ebpf::{
    abi::{LossReason, NonIpKind, Note},
    packet::{Link, Offload},
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

/// Position in a fragmented packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fragment {
    /// Not fragmented, or the only fragment.
    #[default]
    None,
    /// The first of several fragments.
    First {
        /// Offset of its fragment field from the IP header.
        field: usize,
    },
    /// A later fragment.
    Later,
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

/// IEEE 802.3, 3.2.6, and 802.1Q, 9: the EtherType behind the addresses and at most three tags,
/// including `tags_beside`.
fn ethernet(frame: &[u8], tags_beside: u32) -> Result<(u16, &[u8]), NonIpKind> {
    fn typed(bytes: &[u8], tags: u32) -> Result<(u16, &[u8]), NonIpKind> {
        match bytes {
            [0x81, 0x00, ..] | [0x88, 0xa8, ..] if tags == 3 => Err(NonIpKind::VlanDepth),
            [0x81, 0x00, _, _, behind @ ..] | [0x88, 0xa8, _, _, behind @ ..] => {
                typed(behind, tags + 1)
            }
            // A tag is read together with the type behind it.
            [0x81, 0x00, ..] | [0x88, 0xa8, ..] => Err(NonIpKind::Short),
            [high, low, behind @ ..] => Ok((u16::from_be_bytes([*high, *low]), behind)),
            _ => Err(NonIpKind::Short),
        }
    }
    typed(frame.get(12..).ok_or(NonIpKind::Short)?, tags_beside)
}

/// An IP packet, parsed up to its transport header.
struct Datagram<'a> {
    source: IpAddr,
    destination: IpAddr,
    /// The protocol named by the last followed header.
    protocol: u8,
    /// Length of IP header and extension headers, according to them.
    headers: usize,
    /// Length of the packet.
    length: usize,
    /// Readable bytes of the transport header and its payload.
    payload: &'a [u8],
    /// Number of extension headers.
    extensions: usize,
    fragment: Fragment,
    /// The reason for a missing transport header.
    note: Option<Note>,
}

/// RFC 791, 3.1.
fn ipv4(packet: &[u8], reported: usize, offload: Offload) -> Result<Datagram<'_>, LossReason> {
    let header: &[u8; 20] = packet.first_chunk().ok_or(LossReason::IpTruncated)?;
    let &[first, _, t0, t1, _, _, f0, f1, _, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        header;
    let headers = match first {
        0x40..=0x44 => return Err(LossReason::IpHeaderLength),
        0x45..=0x4f => usize::from(first - 0x40) * 4,
        _ => return Err(LossReason::IpVersion),
    };
    let length = match usize::from(u16::from_be_bytes([t0, t1])) {
        // Segmentation by the network card, as in captures: only the frame gives the length.
        0 => reported,
        total if total < headers => return Err(LossReason::IpTotalLength),
        _ if offload.size != 0 => reported,
        total if total > reported => return Err(LossReason::IpTotalLength),
        total => total,
    };
    let (more, offset) = (f0 & 0x20 != 0, u16::from_be_bytes([f0 & 0x1f, f1]));
    let fragment = match (more, offset) {
        (false, 0) => Fragment::None,
        (true, 0) => Fragment::First { field: 6 },
        _ => Fragment::Later,
    };
    Ok(Datagram {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol,
        headers,
        length,
        payload: between(packet, headers, length),
        extensions: 0,
        fragment,
        note: (fragment == Fragment::Later).then_some(Note::LaterFragment),
    })
}

/// RFC 8200, 3.
fn ipv6(packet: &[u8], reported: usize, offload: Offload) -> Result<Datagram<'_>, LossReason> {
    let header: &[u8; 40] = packet.first_chunk().ok_or(LossReason::IpTruncated)?;
    let &[first, _, _, _, p0, p1, next, _, ..] = header;
    if first & 0xf0 != 0x60 {
        return Err(LossReason::IpVersion);
    }
    let length = match (usize::from(u16::from_be_bytes([p0, p1])), next) {
        _ if offload.size != 0 => reported,
        // RFC 8200, 4.7: the packet ends here, and the rest is padding.
        (0, 59) => 40,
        // RFC 2675, with the length in a hop-by-hop option; or segmentation by the network card, as
        // for IPv4.
        (0, _) => reported,
        (payload, _) if 40 + payload > reported => return Err(LossReason::IpTotalLength),
        (payload, _) => 40 + payload,
    };
    let mut datagram = Datagram {
        source: Ipv6Addr::from(array(header, 8)).into(),
        destination: Ipv6Addr::from(array(header, 24)).into(),
        protocol: next,
        headers: 40,
        length,
        payload: between(packet, 40, length),
        extensions: 0,
        fragment: Fragment::None,
        note: None,
    };
    follow(&mut datagram);
    Ok(datagram)
}

/// RFC 8200, 4, and the registry "IPv6 Extension Header Types", except ESP, which encrypts the
/// rest, and the two experimental numbers.
fn follow(datagram: &mut Datagram<'_>) {
    let kind = datagram.protocol;
    if !matches!(kind, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        return;
    }
    if datagram.extensions == 8 {
        datagram.note = Some(Note::ExtensionLimit);
        return;
    }
    // Each is at least 8 bytes long.
    let &[next, units, o0, o1, _, _, _, _, ..] = datagram.payload else {
        datagram.note = Some(Note::ExtensionTruncated);
        return;
    };
    let length = match kind {
        44 => 8,
        51 => 4 * (usize::from(units) + 2),
        _ => 8 * (usize::from(units) + 1),
    };
    let field = datagram.headers + 2;
    datagram.protocol = next;
    datagram.extensions += 1;
    datagram.headers += length;
    datagram.payload = datagram.payload.get(length..).unwrap_or_default();
    if kind == 44 {
        let offset_and_more = u16::from_be_bytes([o0, o1]);
        if offset_and_more >> 3 != 0 {
            datagram.fragment = Fragment::Later;
            datagram.note = Some(Note::LaterFragment);
            return;
        }
        if offset_and_more & 1 != 0 {
            datagram.fragment = Fragment::First { field };
        }
    }
    follow(datagram);
}

/// The 16 bytes at `start`.
fn array(header: &[u8; 40], start: usize) -> [u8; 16] {
    std::array::from_fn(|at| header[start + at])
}

/// The available part of the bytes from `start` to `end`.
fn between(bytes: &[u8], start: usize, end: usize) -> &[u8] {
    let bytes = &bytes[..end.min(bytes.len())];
    bytes.get(start..).unwrap_or_default()
}

/// A transport header.
#[derive(Default)]
struct Transport {
    ports: (u16, u16),
    icmp: Option<(u8, u8)>,
    tcp_flags: u8,
    length: usize,
    note: Option<Note>,
}

/// RFC 9293, 768, 3828, 4340, 9260, 792 and 4443: positions of the ports, the flags, type and code.
fn transport(protocol: u8, bytes: &[u8]) -> Transport {
    let none = Transport::default();
    match (protocol, bytes) {
        (6, &[s0, s1, d0, d1, _, _, _, _, _, _, _, _, offset, tcp_flags, ..]) => {
            let ports = ports([s0, s1], [d0, d1]);
            Transport { ports, tcp_flags, length: usize::from(offset >> 4) * 4, ..none }
        }
        (6, &[s0, s1, d0, d1, ..]) => Transport {
            ports: ports([s0, s1], [d0, d1]),
            note: Some(Note::TransportTruncated),
            ..none
        },
        (17 | 136, &[s0, s1, d0, d1, ..]) => {
            Transport { ports: ports([s0, s1], [d0, d1]), length: 8, ..none }
        }
        (33 | 132, &[s0, s1, d0, d1, ..]) => {
            Transport { ports: ports([s0, s1], [d0, d1]), length: 12, ..none }
        }
        (1 | 58, &[kind, code, ..]) => Transport { icmp: Some((kind, code)), ..none },
        (6 | 17 | 136 | 33 | 132 | 1 | 58, _) => {
            Transport { note: Some(Note::TransportTruncated), ..none }
        }
        _ => none,
    }
}

fn ports(source: [u8; 2], destination: [u8; 2]) -> (u16, u16) {
    (u16::from_be_bytes(source), u16::from_be_bytes(destination))
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

/// The inner headers of a super-packet in a tunnel.
struct Inside {
    /// Length of the tunnel's header and of the inner packet's headers.
    headers: usize,
    /// Length of the inner packet, from its IP header on.
    length: usize,
}

/// The tunnel's headers are unknown or incomplete.
struct Hidden;

/// RFC 2003, 2473, 4213, 2784 with 2890, 7348, 8926, and draft-ietf-nvo3-vxlan-gpe: tunnels that
/// Linux segments. `length` is the original length of `payload`.
fn tunnel(
    protocol: u8,
    port: u16,
    payload: &[u8],
    length: usize,
) -> Option<Result<Inside, Hidden>> {
    const ETHERNET: u16 = 0x6558;
    let header = match (protocol, port, payload) {
        (4, ..) => Some((0x0800, 0)),
        (41, ..) => Some((0x86dd, 0)),
        (47, _, &[flags, version, high, low, ..])
            if flags & 0x40 == 0 && version.trailing_zeros() >= 3 =>
        {
            let words = [0x80, 0x20, 0x10].into_iter().filter(|flag| flags & flag != 0).count();
            Some((u16::from_be_bytes([high, low]), 4 + 4 * words))
        }
        (17, 4789 | 8472, _) => Some((ETHERNET, 8)),
        (17, 4790, &[flags, _, _, next, _, _, _, _, ..]) => match (flags & 4, next) {
            (0, _) | (_, 3) => Some((ETHERNET, 8)),
            (_, 1) => Some((0x0800, 8)),
            (_, 2) => Some((0x86dd, 8)),
            _ => None,
        },
        (17, 6081, &[options @ 0..=0x3f, _, high, low, _, _, _, _, ..]) => {
            Some((u16::from_be_bytes([high, low]), 8 + 4 * usize::from(options)))
        }
        (47 | 50 | 137, ..) | (17, 4790 | 6081, _) => None,
        _ => return None,
    };
    Some(header.ok_or(Hidden).and_then(|(ether_type, header)| {
        let frame = payload.get(header..).ok_or(Hidden)?;
        let (ether_type, packet) = match ether_type {
            ETHERNET => ethernet(frame, 0).map_err(|_| Hidden)?,
            bare => (bare, frame),
        };
        let link = payload.len() - packet.len();
        let (reported, plain) = (length - link, Offload::default());
        let datagram = match ether_type {
            0x0800 => ipv4(packet, reported, plain),
            0x86dd => ipv6(packet, reported, plain),
            _ => return Err(Hidden),
        };
        let datagram = datagram.map_err(|_| Hidden)?;
        let inner = transport(datagram.protocol, datagram.payload);
        // Chains of inner headers are not followed.
        let is_whole = datagram.fragment == Fragment::None
            && datagram.note.is_none()
            && datagram.extensions == 0;
        if !is_whole || inner.note.is_some() || inner.length == 0 {
            return Err(Hidden);
        }
        Ok(Inside { headers: link + datagram.headers + inner.length, length: datagram.length })
    }))
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
