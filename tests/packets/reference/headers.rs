//! Link, network and transport headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use observer_ebpf::{
    abi::{LossReason, NonIpKind, Note},
    packet::Offload,
};

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

/// IEEE 802.3, 3.2.6, and 802.1Q, 9: the EtherType behind the addresses and at most three tags,
/// including `tags_beside`.
pub(super) fn ethernet(frame: &[u8], tags_beside: u32) -> Result<(u16, &[u8]), NonIpKind> {
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
pub(super) struct Datagram<'a> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    /// The protocol named by the last followed header.
    pub(super) protocol: u8,
    /// Length of IP header and extension headers, according to them.
    pub(super) headers: usize,
    /// Length of the packet.
    pub(super) length: usize,
    /// Readable bytes of the transport header and its payload.
    pub(super) payload: &'a [u8],
    /// Number of extension headers.
    pub(super) extensions: usize,
    pub(super) fragment: Fragment,
    /// The reason for a missing transport header.
    pub(super) note: Option<Note>,
}

/// RFC 791, 3.1.
pub(super) fn ipv4(
    packet: &[u8],
    reported: usize,
    offload: Offload,
) -> Result<Datagram<'_>, LossReason> {
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
pub(super) fn ipv6(
    packet: &[u8],
    reported: usize,
    offload: Offload,
) -> Result<Datagram<'_>, LossReason> {
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
pub(super) struct Transport {
    pub(super) ports: (u16, u16),
    pub(super) icmp: Option<(u8, u8)>,
    pub(super) tcp_flags: u8,
    pub(super) length: usize,
    pub(super) note: Option<Note>,
}

/// RFC 9293, 768, 3828, 4340, 9260, 792 and 4443: positions of the ports, the flags, type and code.
pub(super) fn transport(protocol: u8, bytes: &[u8]) -> Transport {
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
