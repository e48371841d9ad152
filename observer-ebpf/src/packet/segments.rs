//! Packets and bytes of a GSO or GRO super-packet, as on the wire.

/// Segmentation of a socket buffer, by its `gso_size` and `gso_segs`. Both are 0 for an ordinary
/// packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Payload bytes per segment; 0 for an ordinary packet; 0xffff if the segments differ in size
    /// (SCTP).
    pub size: u32,
    /// Number of segments; 0 if a driver or a tap leaves it to be computed.
    pub segments: u32,
}

/// Packets and bytes of layer 3 as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Packets.
    pub packets: u32,
    /// Bytes of layer 3, including the headers of every segment.
    pub bytes: u64,
}

impl Wire {
    /// The remainder after one packet of `l3_bytes` is counted.
    #[inline(always)]
    #[must_use]
    pub const fn beyond(self, l3_bytes: u32) -> Self {
        Self {
            packets: self.packets.saturating_sub(1),
            bytes: self.bytes.saturating_sub(l3_bytes as u64),
        }
    }
}

/// `gso_size` of a packet whose segments are its fragments (`GSO_BY_FRAGS`, kernel commit
/// 3953c46c3ac7).
pub(super) const BY_FRAGMENTS: u32 = 0xffff;

impl Offload {
    /// Packets and bytes on the wire of `l3_bytes`, of which every segment repeats `headers` bytes.
    #[inline(always)]
    pub(super) fn wire(self, l3_bytes: u32, headers: u32) -> Wire {
        if self.size == 0 {
            return Wire { packets: 1, bytes: u64::from(l3_bytes) };
        }
        let packets = match self.segments {
            0 if self.size != BY_FRAGMENTS => {
                l3_bytes.saturating_sub(headers).div_ceil(self.size).max(1)
            }
            segments => segments.max(1),
        };
        Wire { packets, bytes: u64::from(l3_bytes) + u64::from(packets - 1) * u64::from(headers) }
    }

    /// Estimate for a packet with unreadable headers.
    #[inline(always)]
    pub(super) fn unparsed(self, bytes: u32) -> Wire {
        Wire { packets: self.segments.max(1), bytes: u64::from(bytes) }
    }
}
