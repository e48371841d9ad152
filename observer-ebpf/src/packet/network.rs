//! Values of an IP header, and errors of reading it, for both versions.

use super::{bytes::PacketBytes, frame::Fragment};
use crate::abi::{Family, LossReason, Note};

/// The values of an IP header that the parser needs.
pub(super) struct Network {
    pub(super) family: Family,
    pub(super) source: [u64; 2],
    pub(super) destination: [u64; 2],
    pub(super) protocol: u8,
    /// Offset of the transport header in the frame.
    pub(super) transport: u32,
    /// Bytes of layer 3. Bytes of the frame behind them are not part of the packet.
    pub(super) l3_bytes: u32,
    pub(super) fragment: Fragment,
    /// Set if the packet has no readable transport header.
    pub(super) note: Option<Note>,
}

impl Network {
    /// See [`PacketBytes::forget`]. Only for packets without a note, which are otherwise alike.
    #[inline(always)]
    pub(super) fn forget<B: PacketBytes + ?Sized>(&mut self, bytes: &B) {
        // Without a branch, because the verifier would verify the rest once for each side.
        self.family = match bytes.forget(self.family as u32) & 1 {
            0 => Family::V4,
            _ => Family::V6,
        };
        self.source = [bytes.forget_long(self.source[0]), bytes.forget_long(self.source[1])];
        self.destination =
            [bytes.forget_long(self.destination[0]), bytes.forget_long(self.destination[1])];
        self.protocol = bytes.forget(self.protocol.into()) as u8;
        self.transport = bytes.forget(self.transport);
        self.l3_bytes = bytes.forget(self.l3_bytes);
    }
}

/// The length of a packet as the frame gives it.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// Bytes of the frame behind its link header.
    pub(super) behind_link: u32,
    /// True for a super-packet. Its IP header does not give its own length.
    pub(super) is_super: bool,
}

impl Extent {
    /// Bytes of layer 3. `claimed` is the length in the IP header, or [`None`] if only the frame
    /// gives it.
    #[inline(always)]
    pub(super) fn l3_bytes(self, claimed: Option<u32>) -> Result<u32, Unreadable> {
        match claimed {
            // A packet shorter than the frame has Ethernet padding. One longer than the frame is
            // refused by the stack.
            Some(claimed) if !self.is_super => {
                if claimed > self.behind_link {
                    return Err(Unreadable::Lost(LossReason::IpTotalLength));
                }
                Ok(claimed)
            }
            _ => Ok(self.behind_link),
        }
    }
}

/// Reasons for an unreadable IP header.
pub(super) enum Unreadable {
    Lost(LossReason),
    Chain,
}
