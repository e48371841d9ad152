//! Headers inside the tunnels that Linux segments.

use observer_ebpf::packet::Offload;

use super::headers::{Fragment, ethernet, ipv4, ipv6, transport};

/// The inner headers of a super-packet in a tunnel.
pub(super) struct Inside {
    /// Length of the tunnel's header and of the inner packet's headers.
    pub(super) headers: usize,
    /// Length of the inner packet, from its IP header on.
    pub(super) length: usize,
}

/// The tunnel's headers are unknown or incomplete.
pub(super) struct Hidden;

/// RFC 2003, 2473, 4213, 2784 with 2890, 7348, 8926, and draft-ietf-nvo3-vxlan-gpe: tunnels that
/// Linux segments. `length` is the original length of `payload`.
pub(super) fn tunnel(
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
