//! Ports and flags of the transport header.

use super::bytes::{PacketBytes, field, within};
use crate::abi::Note;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// The values of a transport header that the parser needs.
pub(super) struct Transport {
    pub(super) source_port_be: u16,
    pub(super) destination_port_be: u16,
    pub(super) tcp_flags: u8,
    /// Offset of the end of the headers in the frame, inner headers of a tunnel included: each
    /// segment of a super-packet repeats all of them.
    pub(super) end: u32,
    pub(super) note: Option<Note>,
}

impl Transport {
    #[inline(always)]
    pub(super) const fn unread(offset: u32, note: Note) -> Self {
        Self { note: Some(note), ..Self::portless(offset) }
    }

    #[inline(always)]
    const fn portless(offset: u32) -> Self {
        Self { source_port_be: 0, destination_port_be: 0, tcp_flags: 0, end: offset, note: None }
    }
}

impl Transport {
    /// See [`PacketBytes::forget`]. Only for headers without a note, which are otherwise alike.
    #[inline(always)]
    pub(super) fn forget<B: PacketBytes + ?Sized>(&mut self, bytes: &B) {
        self.source_port_be = bytes.forget(self.source_port_be.into()) as u16;
        self.destination_port_be = bytes.forget(self.destination_port_be.into()) as u16;
        self.tcp_flags = bytes.forget(self.tcp_flags.into()) as u8;
        self.end = bytes.forget(self.end);
    }
}

/// Reads the header of `protocol` at `offset`, in a packet that ends at `end`.
#[inline(always)]
pub(super) fn read<B: PacketBytes + ?Sized>(
    bytes: &B,
    protocol: u8,
    offset: u32,
    end: u32,
) -> Transport {
    match protocol {
        TCP => {
            let Some(header) = within::<14, B>(bytes, offset, end) else {
                return ports(bytes, offset, end, 0);
            };
            let [data_offset] = field(header, 12);
            let [tcp_flags] = field(header, 13);
            Transport {
                source_port_be: u16::from_ne_bytes(field(header, 0)),
                destination_port_be: u16::from_ne_bytes(field(header, 2)),
                tcp_flags,
                end: offset + u32::from(data_offset >> 4) * 4,
                note: None,
            }
        }
        UDP | UDP_LITE => ports(bytes, offset, end, 8),
        SCTP | DCCP => ports(bytes, offset, end, 12),
        ICMP | ICMPV6 => {
            let Some(header) = within::<2, B>(bytes, offset, end) else {
                return Transport::unread(offset, Note::TransportTruncated);
            };
            // The destination port marks that the source port is set: type 0, code 0 is an echo
            // reply.
            Transport {
                source_port_be: u16::from_ne_bytes(*header),
                destination_port_be: 1,
                ..Transport::portless(offset)
            }
        }
        _ => Transport::portless(offset),
    }
}

/// Reads the two ports at the beginning of TCP, UDP, UDP-Lite, DCCP and SCTP, of a header of `len`
/// bytes.
///
/// A header that is truncated behind its ports still has them.
#[inline(always)]
fn ports<B: PacketBytes + ?Sized>(bytes: &B, offset: u32, end: u32, len: u32) -> Transport {
    let Some(header) = within::<4, B>(bytes, offset, end) else {
        return Transport::unread(offset, Note::TransportTruncated);
    };
    Transport {
        source_port_be: u16::from_ne_bytes(field(header, 0)),
        destination_port_be: u16::from_ne_bytes(field(header, 2)),
        tcp_flags: 0,
        end: offset + len,
        note: if len == 0 { Some(Note::TransportTruncated) } else { None },
    }
}
