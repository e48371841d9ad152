//! IDs of network namespaces.

use super::{
    message::{Attributes, u32_at},
    unread::{self, Kind},
};

/// ID of a namespace, assigned by the kernel for the namespace that asks. IDs are reused.
pub type NetnsId = i32;

/// Length of `struct rtgenmsg`.
pub(super) const HEADER: usize = 1;
pub(super) const NETNSA_NSID: u16 = 1;
pub(super) const NETNSA_FD: u16 = 3;

/// ID in a message about namespaces; `None` if it has none.
pub(super) fn netns_id_in(payload: &[u8]) -> Option<NetnsId> {
    // Attributes begin at a multiple of four bytes.
    let value = Attributes::of(payload.get(4..)?).get(NETNSA_NSID);
    let Some(id) = value.and_then(|value| u32_at(value, 0)) else {
        unread::count(Kind::Netns, payload);
        return None;
    };
    Some(id as NetnsId).filter(|id| *id >= 0)
}
