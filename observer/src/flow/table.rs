use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::{
    Action, FlowKey, Traffic,
    delta::{Counters, Delta},
};

/// What became of a [`Delta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It went to a flow that was there.
    Known,
    /// It made a new flow.
    New,
    /// It would have made one, and was not added.
    Refused,
}

/// The flows of one window.
///
/// Entries lie in chunks that never move: growing a single vector would copy, and hold twice, all
/// that is in it. The index is 5 bytes per bucket, so a million flows take about 95 MB.
#[derive(Debug, Default)]
pub struct Table {
    index: HashTable<u32>,
    chunks: Vec<Vec<Delta>>,
    hasher: RandomState,
    /// Flows of packets that are counted as accepted too, until [`settle`](Self::settle).
    rejected: Vec<u32>,
    /// Flows of which nothing is left.
    empty: usize,
}

const CHUNK: usize = 4096;

impl Table {
    /// Memory of a flow at most: its entry, and its part of the index, which has up to 16/7 buckets
    /// per flow, and half as many more while it grows.
    pub const BYTES_PER_FLOW: u64 = size_of::<Delta>() as u64 + 18;

    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to a flow, which may be a new one.
    pub fn add(&mut self, delta: &Delta) {
        self.add_if(delta, true);
    }

    /// Adds to a flow; to a new one only if it `may_grow`.
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

    /// Takes packets that were dropped behind the hook out of the flows that they were counted in,
    /// so that each is in one flow: to be called once, when all that belongs to the window is in.
    ///
    /// The hook counts a packet before it is dropped. One whose flow is not here any more was
    /// recorded as accepted in the window before; that stands, and the packet is taken out of the
    /// rejected flow instead: such packets are returned.
    pub fn settle(&mut self) -> Traffic {
        let mut late = Traffic::NONE;
        let rejected = std::mem::take(&mut self.rejected);
        for &number in &rejected {
            let Delta { key, counters } = *self.at(number);
            let accepted = self.find(&key.with_action(Action::Accept));
            let counted = accepted.map_or((0, 0), |accepted| {
                let Counters { packets, bytes, .. } = self.at(accepted).counters;
                (packets, bytes)
            });
            let (packets, bytes) = if counters.packets < counted.0 {
                (counters.packets, counters.bytes.min(counted.1))
            } else {
                counted
            };
            late.packets += counters.packets - packets;
            late.bytes += counters.bytes.saturating_sub(bytes);
            self.set(number, (packets, bytes));
            if let Some(accepted) = accepted {
                self.set(accepted, (counted.0 - packets, counted.1 - bytes));
            }
        }
        for number in rejected {
            self.take_headers(number);
        }
        late
    }

    /// Notes on an accepted flow that so many of its packets were not delivered; false if it is not
    /// here.
    pub fn note_undelivered(&mut self, key: &FlowKey, packets: u64) -> bool {
        let Some(number) = self.find(key) else { return false };
        self.chunks[number as usize / CHUNK][number as usize % CHUNK].counters.undelivered +=
            packets;
        true
    }

    /// Takes what is left of fragments that were dropped as one packet, if that is all that is left
    /// in the flow that they were counted in.
    ///
    /// The program that sees the drop knows the payload, but not always how many fragments it had
    /// come in. Those that it does not know of leave their headers, and nothing but these.
    fn take_headers(&mut self, number: u32) {
        let Delta { key, counters } = *self.at(number);
        let Some(accepted) = self.find(&key.with_action(Action::Accept)) else { return };
        let left = self.at(accepted).counters;
        if counters.packets != 0
            && left.packets != 0
            && is_headers_alone(&key, left.packets, left.bytes)
        {
            self.set(number, (counters.packets + left.packets, counters.bytes + left.bytes));
            self.set(accepted, (0, 0));
        }
    }

    fn find(&self, key: &FlowKey) -> Option<u32> {
        self.index.find(self.hasher.hash_one(key), |number| self.at(*number).key == *key).copied()
    }

    fn at(&self, number: u32) -> &Delta {
        &self.chunks[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn set(&mut self, number: u32, (packets, bytes): (u64, u64)) {
        let counters = &mut self.chunks[number as usize / CHUNK][number as usize % CHUNK].counters;
        if counters.packets != 0 && packets == 0 {
            self.empty += 1;
        }
        (counters.packets, counters.bytes) = (packets, bytes);
    }

    /// How many flows it holds.
    pub fn len(&self) -> usize {
        self.index.len() - self.empty
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flows that take memory: those of which nothing is left, too.
    pub fn in_memory(&self) -> usize {
        self.index.len()
    }

    /// Takes the flows out, in the order in which they were first seen, and gives their memory back
    /// on the way.
    pub fn into_flows(self) -> impl Iterator<Item = Delta> {
        let Self { index, chunks, .. } = self;
        drop(index);
        chunks.into_iter().flatten().filter(|flow| flow.counters.packets != 0)
    }

    /// The flows, in the order in which they were first seen.
    pub fn flows(&self) -> impl Iterator<Item = &Delta> {
        self.chunks.iter().flatten().filter(|flow| flow.counters.packets != 0)
    }
}

/// Whether so many packets of a flow with so many bytes are IPv4 headers without anything behind
/// them. No packet that has ports is that short. Of IPv6 it cannot be told: a fragment's headers
/// are as long as those of an empty datagram.
fn is_headers_alone(key: &FlowKey, packets: u64, bytes: u64) -> bool {
    const IPV4_HEADER: u64 = 20;
    let has_ports = (key.source_port(), key.destination_port()) != (0, 0);
    has_ports && key.source().is_ipv4() && bytes == packets * IPV4_HEADER
}

#[cfg(test)]
mod tests {
    use super::{super::Icmp, *};
    use crate::flow::{Direction, DropReason, Family, InterfaceNumber};

    fn delta(flow: u64, packets: u64, at: i64, icmp: Icmp) -> Delta {
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
    /// What a table says after `accepted` and `rejected` packets of one flow, of 100 bytes each.
    fn settled(
        direction: Direction,
        accepted: &[u64],
        rejected: &[(DropReason, u64)],
    ) -> (Vec<(Action, u64)>, Traffic) {
        let mut table = Table::new();
        let add = |table: &mut Table, action, packets| {
            let mut delta = delta(1, packets, 0, Icmp::None);
            let (addresses, ports) = (([0, 1], [0, 1]), (1, 53));
            let interface = InterfaceNumber::new(1);
            delta.key = FlowKey::new(interface, direction, Family::V6, 17, addresses, ports)
                .with_action(action);
            table.add(&delta);
        };
        for (reason, packets) in rejected {
            add(&mut table, Action::Reject(*reason), *packets);
        }
        for packets in accepted {
            add(&mut table, Action::Accept, *packets);
        }
        let late = table.settle();
        assert_eq!(table.flows().count(), table.len());
        let flows = table.flows().map(|flow| {
            assert_eq!(flow.counters.bytes, flow.counters.packets * 100);
            (flow.key.action(), flow.counters.packets)
        });
        (flows.collect(), late)
    }

    #[test]
    fn what_was_dropped_behind_the_hook_is_in_one_flow_only() {
        use Action::{Accept, Reject};
        use DropReason::{Netfilter, TcIngress};
        let ingress = |accepted: &[u64], rejected: &[(DropReason, u64)]| {
            let (mut flows, late) = settled(Direction::Ingress, accepted, rejected);
            flows.sort_by_key(|(action, _)| *action != Accept);
            (flows, late.packets)
        };
        assert_eq!(ingress(&[5, 5], &[]), (vec![(Accept, 10)], 0));
        assert_eq!(
            ingress(&[5, 5], &[(Netfilter, 3), (Netfilter, 1)]),
            (vec![(Accept, 6), (Reject(Netfilter), 4)], 0)
        );
        assert_eq!(ingress(&[5], &[(Netfilter, 5)]), (vec![(Reject(Netfilter), 5)], 0));
        assert_eq!(
            ingress(&[9], &[(Netfilter, 3), (TcIngress, 4)]),
            (vec![(Accept, 2), (Reject(Netfilter), 3), (Reject(TcIngress), 4)], 0)
        );
        // The window before has recorded two of these, and all of those.
        assert_eq!(ingress(&[3], &[(Netfilter, 5)]), (vec![(Reject(Netfilter), 3)], 2));
        assert_eq!(ingress(&[], &[(Netfilter, 5)]), (vec![], 5));
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
    fn what_was_dropped_before_the_hook_is_in_no_other_flow() {
        use Action::{Accept, Reject};
        use DropReason::{CgroupEgress, Netfilter};
        let rejected = [(Netfilter, 3), (CgroupEgress, 2)];
        let (flows, late) = settled(Direction::Egress, &[7], &rejected);
        assert_eq!(flows, [(Reject(Netfilter), 3), (Reject(CgroupEgress), 2), (Accept, 7)]);
        assert_eq!(late, Traffic::NONE);
    }

    /// What is accepted and rejected of a flow whose fragments, `counted` by the hook, were dropped
    /// as `dropped`.
    fn of_fragments(
        family: Family,
        ports: (u16, u16),
        counted: (u64, u64),
        dropped: &[(DropReason, (u64, u64))],
    ) -> Vec<(Action, (u64, u64))> {
        let key = FlowKey::new(
            InterfaceNumber::new(1),
            Direction::Ingress,
            family,
            17,
            ([0, 1], [0, 2]),
            ports,
        );
        let mut table = Table::new();
        let mut add = |action, (packets, bytes)| {
            let counters = Counters { packets, bytes, ..delta(1, 1, 0, Icmp::None).counters };
            table.add(&Delta { key: key.with_action(action), counters });
        };
        add(Action::Accept, counted);
        for (reason, sums) in dropped {
            add(Action::Reject(*reason), *sums);
        }
        assert_eq!(table.settle(), Traffic::NONE);
        assert_eq!(table.flows().count(), table.len());
        let flows = table.flows();
        flows
            .map(|flow| (flow.key.action(), (flow.counters.packets, flow.counters.bytes)))
            .collect()
    }

    #[test]
    fn headers_that_unknown_fragments_leave_are_of_the_rejected_flow() {
        use Action::{Accept, Reject};
        use DropReason::{Netfilter, SocketFilter};
        // Fragments with 8, 8, 1,480 and 1,104 bytes of payload, of which the kernel says that the
        // largest has 1,480.
        let (counted, dropped) = ((400, 268_000), (200, 264_000));
        let of = |family, ports| of_fragments(family, ports, counted, &[(Netfilter, dropped)]);
        assert_eq!(of(Family::V4, (5, 9)), [(Reject(Netfilter), counted)]);
        let two = [(Netfilter, (100, 132_000)), (SocketFilter, (100, 132_000))];
        assert_eq!(
            of_fragments(Family::V4, (5, 9), counted, &two),
            [(Reject(Netfilter), (300, 136_000)), (Reject(SocketFilter), (100, 132_000))]
        );
        // An IP header alone may be a packet of its own, where there are no ports.
        let apart = [(Accept, (200, 4_000)), (Reject(Netfilter), dropped)];
        assert_eq!(of(Family::V4, (0, 0)), apart);
        // Something else is among it.
        assert_eq!(
            of_fragments(Family::V4, (5, 9), (400, 268_001), &[(Netfilter, dropped)]),
            [(Accept, (200, 4_001)), (Reject(Netfilter), dropped)]
        );
        assert_eq!(
            of_fragments(Family::V4, (5, 9), (200, 4_000), &[]),
            [(Accept, (200, 4_000))],
            "nothing was dropped"
        );
        assert_eq!(of(Family::V6, (5, 9)), apart);
    }
}
