//! Counts of one flow, from a drain or the spill ring.

use super::FlowKey;
#[cfg(test)]
use super::{Direction, Family, InterfaceNumber};

/// Type and code of the ICMP messages of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Icmp {
    /// Another protocol, or none seen yet.
    #[default]
    None,
    /// All of them were of this type and code.
    One {
        /// IANA ICMP type.
        kind: u8,
        /// Its code.
        code: u8,
    },
    /// They differed.
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

/// What a flow has counted. Merging is commutative, so halves, CPUs and the spill ring come in any
/// order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of layer 3.
    pub bytes: u64,
    /// Arrival of the first packet, in milliseconds since the UNIX epoch.
    pub first_ms: i64,
    /// Arrival of the last packet, likewise.
    pub last_ms: i64,
    /// All eight TCP flags, or-ed.
    pub tcp_flags_all: u8,
    /// The `tcp-flags` of VPC Flow Logs.
    pub tcp_flags_aws: u8,
    /// For ICMP and ICMPv6.
    pub icmp: Icmp,
    /// Packets among them that nobody took, though no policy dropped them; may be more than there
    /// are.
    pub undelivered: u64,
}

impl Counters {
    /// Moves times that a lagging clock put before `unix_ms` there.
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

/// What a drain found of one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Which flow.
    pub key: FlowKey,
    /// What it counted since the drain before.
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
