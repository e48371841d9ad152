//! Ethernet II, IEEE 802.1Q and 802.1ad (QinQ).

use super::{
    bytes::{PacketBytes, field},
    frame::Skip,
};
use crate::abi::NonIpKind;

pub(super) const IPV4: u16 = 0x0800;
pub(super) const ARP: u16 = 0x0806;
pub(super) const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

const HEADER: u32 = 14;
const TAG: u32 = 4;

/// Number of VLAN tags that are followed, including tags in the buffer's metadata.
pub const MAX_VLAN_TAGS: u32 = 3;

/// The EtherType behind all tags of the frame at `begin`, and the offset of the payload.
#[inline(always)]
pub(super) fn payload<B: PacketBytes + ?Sized>(
    bytes: &B,
    begin: u32,
    tags_beside: u32,
) -> Result<(u16, u32), Skip> {
    let header = bytes.at::<{ HEADER as usize }>(begin).ok_or(Skip::NonIp(NonIpKind::Short))?;
    let ether_type = u16::from_be_bytes(field(header, 12));
    if is_tag(ether_type) {
        return if B::FOLLOWS_CHAINS {
            behind_tags(bytes, begin, ether_type, tags_beside)
        } else {
            Err(Skip::Chain)
        };
    }
    Ok((ether_type, begin + HEADER))
}

#[inline(always)]
const fn is_tag(ether_type: u16) -> bool {
    ether_type == VLAN || ether_type == SERVICE_VLAN
}

#[inline(always)]
fn behind_tags<B: PacketBytes + ?Sized>(
    bytes: &B,
    begin: u32,
    mut ether_type: u16,
    tags_beside: u32,
) -> Result<(u16, u32), Skip> {
    let mut offset = begin + HEADER;
    for followed in 0..MAX_VLAN_TAGS {
        if is_tag(ether_type) && followed + tags_beside < MAX_VLAN_TAGS {
            let tag = bytes.at::<{ TAG as usize }>(offset).ok_or(Skip::NonIp(NonIpKind::Short))?;
            ether_type = u16::from_be_bytes(field(tag, 2));
            offset += TAG;
        }
    }
    if is_tag(ether_type) {
        return Err(Skip::NonIp(NonIpKind::VlanDepth));
    }
    Ok((ether_type, bytes.forget(offset)))
}
