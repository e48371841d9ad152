use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{FlowKey, delta::Delta};

/// Result of adding a [`Delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Added to an existing flow.
    Known,
    /// Added as a new flow.
    New,
    /// Not added: it would have been a new flow.
    Refused,
}

/// Flows of one window.
///
/// Entries are in chunks that never move. A single vector would copy all entries when it grows, and
/// hold them twice meanwhile. The index takes 5 bytes per bucket, so a million flows take about 95
/// MB.
#[derive(Debug, Default)]
pub struct Table {
    index: HashTable<u32>,
    chunks: Vec<Vec<Delta>>,
    hasher: RandomState,
    /// Flows whose packets are counted as accepted too, until [`settle`](Self::settle).
    pub(super) rejected: Vec<u32>,
    /// Number of flows that [`settle`](Self::settle) has left without packets.
    empty: usize,
}

const CHUNK: usize = 4096;

impl Table {
    /// Largest memory of a flow in bytes: its entry and its part of the index. The index has up to
    /// 16/7 buckets per flow, and half as many more while it grows.
    pub const BYTES_PER_FLOW: u64 = size_of::<Delta>() as u64 + 18;

    /// Creates an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds counts to a flow, which may be new.
    pub fn add(&mut self, delta: &Delta) {
        self.add_if(delta, true);
    }

    /// Adds counts to a flow. Creates a flow only if `may_grow` is true.
    pub fn add_if(&mut self, delta: &Delta, may_grow: bool) -> Added {
        let Self { index, chunks, hasher, rejected, .. } = self;
        let hash = |key: &FlowKey| hasher.hash_one(key);
        let at = |number: &u32| &chunks[*number as usize / CHUNK][*number as usize % CHUNK];
        let found = index.entry(
            hash(&delta.key),
            |number| at(number).key == delta.key,
            |number| hash(&at(number).key),
        );
        match found {
            hashbrown::hash_table::Entry::Occupied(entry) => {
                let number = *entry.get() as usize;
                chunks[number / CHUNK][number % CHUNK].counters.merge(&delta.counters);
                Added::Known
            }
            hashbrown::hash_table::Entry::Vacant(_) if !may_grow => Added::Refused,
            hashbrown::hash_table::Entry::Vacant(entry) => {
                let full = chunks.last().is_none_or(|chunk| chunk.len() == CHUNK);
                let number = if full {
                    chunks.len() * CHUNK
                } else {
                    (chunks.len() - 1) * CHUNK + chunks[chunks.len() - 1].len()
                };
                entry.insert(number as u32);
                if delta.key.is_rejected_behind_hook() {
                    rejected.push(number as u32);
                }
                if full {
                    chunks.push(Vec::with_capacity(CHUNK));
                }
                if let Some(chunk) = chunks.last_mut() {
                    chunk.push(*delta);
                }
                Added::New
            }
        }
    }

    /// Adds undelivered packets to an accepted flow. Returns false if the flow is not in the table.
    pub fn note_undelivered(&mut self, key: &FlowKey, packets: u64) -> bool {
        let Some(number) = self.find(key) else { return false };
        self.chunks[number as usize / CHUNK][number as usize % CHUNK].counters.undelivered +=
            packets;
        true
    }

    pub(super) fn find(&self, key: &FlowKey) -> Option<u32> {
        self.index.find(self.hasher.hash_one(key), |number| self.at(*number).key == *key).copied()
    }

    pub(super) fn at(&self, number: u32) -> &Delta {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    pub(super) fn set(&mut self, number: u32, (packets, bytes): (u64, u64)) {
        let counters = &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK].counters;
        if counters.packets != 0 && packets == 0 {
            self.empty += 1;
        }
        (counters.packets, counters.bytes) = (packets, bytes);
    }

    /// Number of flows.
    pub fn len(&self) -> usize {
        self.index.len() - self.empty
    }

    /// True if there are no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of flows in memory, including those without packets.
    pub fn in_memory(&self) -> usize {
        self.index.len()
    }

    /// Takes the flows out, in insertion order. Their memory is freed in the course of the
    /// iteration.
    pub fn into_flows(self) -> impl Iterator<Item = Delta> {
        let Self { index, chunks, .. } = self;
        drop(index);
        chunks.into_iter().flatten().filter(|flow| flow.counters.packets != 0)
    }

    /// Flows, in insertion order.
    pub fn flows(&self) -> impl Iterator<Item = &Delta> {
        self.chunks.iter().flatten().filter(|flow| flow.counters.packets != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Icmp, *};
    use crate::flow::delta::example as delta;

    #[test]
    fn any_order_gives_the_same_flow() {
        let one = Icmp::One { kind: 8, code: 0 };
        let deltas = [delta(7, 1, 50, one), delta(7, 2, 10, one), delta(7, 4, 30, Icmp::None)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut table = Table::new();
            for number in order {
                table.add(&deltas[number]);
            }
            let flows: Vec<_> = table.flows().collect();
            assert_eq!(flows.len(), 1);
            let counters = flows[0].counters;
            assert_eq!((counters.packets, counters.bytes), (7, 700));
            assert_eq!((counters.first_ms, counters.last_ms), (10, 51));
            assert_eq!((counters.tcp_flags_all, counters.icmp), (7, one));
        }
    }

    #[test]
    fn different_icmp_messages_are_said_to_differ() {
        let mut table = Table::new();
        table.add(&delta(1, 1, 0, Icmp::One { kind: 8, code: 0 }));
        table.add(&delta(1, 1, 0, Icmp::One { kind: 0, code: 0 }));
        table.add(&delta(1, 1, 0, Icmp::One { kind: 8, code: 0 }));
        assert_eq!(table.flows().next().unwrap().counters.icmp, Icmp::Mixed);
    }

    #[test]
    fn a_table_that_may_not_grow_takes_what_belongs_to_its_flows() {
        let mut table = Table::new();
        assert_eq!(table.add_if(&delta(1, 1, 0, Icmp::None), true), Added::New);
        assert_eq!(table.add_if(&delta(2, 1, 0, Icmp::None), false), Added::Refused);
        assert_eq!(table.add_if(&delta(1, 2, 0, Icmp::None), false), Added::Known);
        let counts: Vec<_> = table.flows().map(|flow| flow.counters.packets).collect();
        assert_eq!(counts, [3]);
    }

    #[test]
    fn what_was_not_delivered_is_noted_on_its_flow_alone() {
        let mut table = Table::new();
        let flows = [delta(1, 5, 0, Icmp::None), delta(2, 5, 0, Icmp::None)];
        for flow in &flows {
            table.add(flow);
        }
        assert!(table.note_undelivered(&flows[0].key, 2));
        assert!(table.note_undelivered(&flows[0].key, 1));
        assert!(!table.note_undelivered(&delta(3, 1, 0, Icmp::None).key, 1));
        let noted: Vec<_> = table.flows().map(|flow| flow.counters.undelivered).collect();
        assert_eq!(noted, [3, 0]);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn every_flow_is_kept_across_chunks() {
        let mut table = Table::new();
        let flows = CHUNK as u64 * 3 + 5;
        for round in 0..2 {
            for flow in 0..flows {
                table.add(&delta(flow, flow + 1, round, Icmp::None));
            }
        }
        assert_eq!(table.len() as u64, flows);
        assert_eq!(table.flows().count() as u64, flows);
        assert_eq!(
            table.flows().map(|flow| flow.counters.packets).sum::<u64>(),
            flows * (flows + 1)
        );
    }
}
