//! The IPv4 header (RFC 791).

use super::{
    bytes::{PacketBytes, field},
    frame::{Fragment, Part},
    network::{Extent, Network, Unreadable},
};
use crate::abi::{Family, FlowKey, LossReason, Note};

const MIN_HEADER: u32 = 20;
/// The fragment offset, in units of 8 bytes.
const OFFSET: u16 = 0x1fff;
/// "More fragments" follow.
const MORE: u16 = 0x2000;

#[inline(always)]
pub(super) fn read<B: PacketBytes + ?Sized>(
    bytes: &B,
    l3: u32,
    extent: Extent,
) -> Result<Network, Unreadable> {
    let header =
        bytes.at::<{ MIN_HEADER as usize }>(l3).ok_or(Unreadable::Lost(LossReason::IpTruncated))?;
    let [version_and_length] = field(header, 0);
    if version_and_length >> 4 != 4 {
        return Err(Unreadable::Lost(LossReason::IpVersion));
    }
    let header_len = u32::from(version_and_length & 0x0f) * 4;
    if header_len < MIN_HEADER {
        return Err(Unreadable::Lost(LossReason::IpHeaderLength));
    }
    let total_len = u32::from(u16::from_be_bytes(field(header, 2)));
    let claimed = match total_len {
        // A super-packet beyond 64 KiB (BIG TCP, kernel commit b1a78b9b9886), also in captures
        // without GSO data.
        0 => None,
        total_len if total_len < header_len => {
            return Err(Unreadable::Lost(LossReason::IpTotalLength));
        }
        total_len => Some(total_len),
    };
    let flags_and_offset = u16::from_be_bytes(field(header, 6));
    let [protocol] = field(header, 9);
    let mut fragment = Fragment::default();
    let mut note = None;
    if flags_and_offset & (MORE | OFFSET) != 0 {
        // The identification is unique between two addresses for one protocol (RFC 791, 3.2), so
        // the protocol is included.
        let id = u32::from(protocol) << 16 | u32::from(u16::from_be_bytes(field(header, 4)));
        fragment = Fragment { part: Part::First, id };
        if flags_and_offset & OFFSET != 0 {
            fragment.part = Part::Later;
            note = Some(Note::LaterFragment);
        }
    }
    Ok(Network {
        family: Family::V4,
        source: FlowKey::mapped(field(header, 12)),
        destination: FlowKey::mapped(field(header, 16)),
        protocol,
        transport: l3 + header_len,
        l3_bytes: extent.l3_bytes(claimed)?,
        fragment,
        note,
    })
}
