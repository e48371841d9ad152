use std::{
    fmt,
    ops::{AddAssign, Sub},
};

use crate::record::{Content, Record, Status};

/// Number of records by `log-status`, with the packets and bytes of their flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    by_status: [u64; Status::ALL.len()],
    /// Packets of the flows, as on the wire.
    pub packets: u64,
    /// Layer-3 bytes of those packets.
    pub bytes: u64,
}

impl Counts {
    /// Sums these records.
    pub fn of<'a>(records: impl Iterator<Item = Record<'a>>) -> Self {
        let mut counts = Self::default();
        records.for_each(|record| counts.add(&record));
        counts
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) {
        self.by_status[record.content.status() as usize] += 1;
        if let Content::Flow(flow) = record.content {
            self.packets += flow.counters.packets;
            self.bytes += flow.counters.bytes;
        }
    }

    /// Number of records with this status.
    pub const fn with_status(&self, status: Status) -> u64 {
        self.by_status[status as usize]
    }

    /// Number of records.
    pub fn records(&self) -> u64 {
        self.by_status.iter().sum()
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        for (own, other) in self.by_status.iter_mut().zip(other.by_status) {
            *own += other;
        }
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// Subtracts each count, and stops at zero.
impl Sub for Counts {
    type Output = Self;

    fn sub(mut self, other: Self) -> Self {
        for (own, other) in self.by_status.iter_mut().zip(other.by_status) {
            *own = own.saturating_sub(other);
        }
        self.packets = self.packets.saturating_sub(other.packets);
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records of {} packets and {} bytes", self.records(), self.packets, self.bytes)
    }
}
