//! Counts of one flow, from a drain or the spill ring.

use super::FlowKey;
#[cfg(test)]
use super::{Direction, Family, InterfaceNumber};

/// Type and code of the ICMP messages of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Icmp {
    /// The protocol is not ICMP, or no message has been counted yet.
    #[default]
    None,
    /// All messages had this type and code.
    One {
        /// IANA ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// The messages had different types or codes.
    Mixed,
}

impl Icmp {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, one) | (one, Self::None) => one,
            (one, other) if one == other => one,
            _ => Self::Mixed,
        }
    }
}

/// Counts of one flow. Merging is commutative, so counts from cache halves, CPUs and the spill ring
/// may arrive in any order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets as on the wire.
    pub packets: u64,
    /// Layer 3 bytes.
    pub bytes: u64,
    /// Arrival of the first packet, in milliseconds since the UNIX epoch.
    pub first_ms: i64,
    /// Arrival of the last packet, in milliseconds since the UNIX epoch.
    pub last_ms: i64,
    /// TCP flags of all packets, OR-ed: all eight flag bits.
    pub tcp_flags_all: u8,
    /// Value of the field `tcp-flags` of VPC Flow Logs.
    pub tcp_flags_aws: u8,
    /// ICMP or ICMPv6 type and code.
    pub icmp: Icmp,
    /// Packets that were not delivered although no policy dropped them. May exceed `packets`.
    pub undelivered: u64,
}

impl Counters {
    /// Raises times before `unix_ms` to `unix_ms`. A lagging clock may have set them too early.
    pub fn begin_no_earlier_than(&mut self, unix_ms: i64) {
        self.first_ms = self.first_ms.max(unix_ms);
        self.last_ms = self.last_ms.max(unix_ms);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.first_ms = self.first_ms.min(other.first_ms);
        self.last_ms = self.last_ms.max(other.last_ms);
        self.tcp_flags_all |= other.tcp_flags_all;
        self.tcp_flags_aws |= other.tcp_flags_aws;
        self.icmp = self.icmp.merge(other.icmp);
        self.undelivered += other.undelivered;
    }
}

/// Counts to add to one flow, from a drain or the spill ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Key of the flow.
    pub key: FlowKey,
    /// Counts since the previous drain, or of one entry of the spill ring.
    pub counters: Counters,
}

/// Counts of a flow, for tests.
#[cfg(test)]
pub(super) fn example(flow: u64, packets: u64, at: i64, icmp: Icmp) -> Delta {
    Delta {
        key: FlowKey::new(
            InterfaceNumber::new(1),
            Direction::Ingress,
            Family::V6,
            17,
            ([0, flow], [0, 1]),
            (flow as u16, 53),
        ),
        counters: Counters {
            packets,
            bytes: packets * 100,
            first_ms: at,
            last_ms: at + 1,
            tcp_flags_all: packets as u8,
            tcp_flags_aws: 0,
            icmp,
            undelivered: 0,
        },
    }
}
