//! What a super-packet of GSO or GRO stands for on the wire.

/// `gso_size` and `gso_segs` of the socket buffer; zeros for an ordinary packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Payload bytes per segment; 0 for an ordinary packet; 0xffff where the segments differ in size (SCTP).
    pub size: u32,
    /// How many segments; 0 where a driver or a tap left it to be computed.
    pub segments: u32,
}

/// Packets and bytes of layer 3 as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Packets.
    pub packets: u32,
    /// Bytes of layer 3, the headers of every segment counted.
    pub bytes: u64,
}

impl Wire {
    /// What is left of it when one packet of `l3_bytes` is counted.
    #[inline(always)]
    #[must_use]
    pub const fn beyond(self, l3_bytes: u32) -> Self {
        Self { packets: self.packets.saturating_sub(1), bytes: self.bytes.saturating_sub(l3_bytes as u64) }
    }
}

/// `gso_size` of a packet whose segments are its fragments (`GSO_BY_FRAGS`, kernel commit 3953c46c3ac7).
pub(super) const BY_FRAGMENTS: u32 = 0xffff;

impl Offload {
    /// What `l3_bytes`, of which `headers` are repeated in every segment, stand for.
    #[inline(always)]
    pub(super) fn wire(self, l3_bytes: u32, headers: u32) -> Wire {
        if self.size == 0 {
            return Wire { packets: 1, bytes: u64::from(l3_bytes) };
        }
        let packets = match self.segments {
            0 if self.size != BY_FRAGMENTS => l3_bytes.saturating_sub(headers).div_ceil(self.size).max(1),
            segments => segments.max(1),
        };
        Wire { packets, bytes: u64::from(l3_bytes) + u64::from(packets - 1) * u64::from(headers) }
    }

    /// What a packet whose headers are unsound stands for, as far as it can be told.
    #[inline(always)]
    pub(super) fn unparsed(self, bytes: u32) -> Wire {
        Wire { packets: self.segments.max(1), bytes: u64::from(bytes) }
    }
}
