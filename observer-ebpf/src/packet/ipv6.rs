//! The IPv6 header and its extension headers (RFC 8200, 4).

use super::{
    bytes::{PacketBytes, field, within},
    frame::{Fragment, Part},
    network::{Extent, Network, Unreadable},
};
use crate::abi::{Family, LossReason, Note};

const HEADER: u32 = 40;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const NO_NEXT_HEADER: u8 = 59;
const DESTINATION: u8 = 60;
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// The fragment offset, in units of 8 bytes, in place.
const OFFSET: u16 = 0xfff8;
/// "More fragments" follow.
const MORE: u16 = 1;

/// Number of extension headers that are followed. RFC 8200 names six kinds, one of which may occur
/// twice.
pub const MAX_EXTENSION_HEADERS: u32 = 8;

#[inline(always)]
pub(super) fn read<B: PacketBytes + ?Sized>(
    bytes: &B,
    l3: u32,
    extent: Extent,
) -> Result<Network, Unreadable> {
    let header =
        bytes.at::<{ HEADER as usize }>(l3).ok_or(Unreadable::Lost(LossReason::IpTruncated))?;
    let [version_and_class] = field(header, 0);
    if version_and_class >> 4 != 6 {
        return Err(Unreadable::Lost(LossReason::IpVersion));
    }
    let payload_len = u32::from(u16::from_be_bytes(field(header, 4)));
    let [next] = field(header, 6);
    let claimed = match payload_len {
        // A jumbogram (RFC 2675), a super-packet beyond 64 KiB (BIG TCP), or a packet captured
        // before segmentation: as for IPv4, only the frame gives the length. Without a next header
        // the packet is empty.
        0 if next != NO_NEXT_HEADER => None,
        payload_len => Some(HEADER + payload_len),
    };
    let mut network = Network {
        family: Family::V6,
        source: [u64::from_ne_bytes(field(header, 8)), u64::from_ne_bytes(field(header, 16))],
        destination: [u64::from_ne_bytes(field(header, 24)), u64::from_ne_bytes(field(header, 32))],
        protocol: next,
        transport: l3 + HEADER,
        l3_bytes: extent.l3_bytes(claimed)?,
        fragment: Fragment::default(),
        note: None,
    };
    if is_extension(next) {
        if !B::FOLLOWS_CHAINS {
            return Err(Unreadable::Chain);
        }
        walk(bytes, &mut network, l3);
    }
    Ok(network)
}

/// True for headers whose first byte is the next header's protocol. ESP encrypts the rest, so it
/// ends the chain.
#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION | MOBILITY | HIP | SHIM6
    )
}

#[inline(always)]
fn walk<B: PacketBytes + ?Sized>(bytes: &B, network: &mut Network, l3: u32) {
    let end = l3 + network.l3_bytes;
    let Network { protocol, transport, fragment, note, .. } = network;
    for followed in 0..=MAX_EXTENSION_HEADERS {
        *protocol = bytes.forget((*protocol).into()) as u8;
        *transport = bytes.forget(*transport);
        if !is_extension(*protocol) {
            return;
        }
        if followed == MAX_EXTENSION_HEADERS {
            *note = Some(Note::ExtensionLimit);
            return;
        }
        let Some(header) = within::<8, B>(bytes, *transport, end) else {
            *note = Some(Note::ExtensionTruncated);
            return;
        };
        let [next] = field(header, 0);
        let [units] = field(header, 1);
        let kind = *protocol;
        *protocol = next;
        *transport += match kind {
            FRAGMENT => 8,
            // in units of 4 bytes, not counting the first two (RFC 4302, 2.2)
            AUTHENTICATION => (u32::from(units) + 2) * 4,
            // in units of 8 bytes, not counting the first
            _ => (u32::from(units) + 1) * 8,
        };
        if kind == FRAGMENT {
            let offset_and_more = u16::from_be_bytes(field(header, 2)) & (OFFSET | MORE);
            let id = u32::from_be_bytes(field(header, 4));
            if offset_and_more & OFFSET != 0 {
                *fragment = Fragment { part: Part::Later, id };
                *note = Some(Note::LaterFragment);
                return;
            }
            // A fragment with offset 0 and no more fragments is whole: an atomic fragment (RFC
            // 6946).
            if offset_and_more & MORE != 0 {
                *fragment = Fragment { part: Part::First, id };
            }
        }
    }
}
