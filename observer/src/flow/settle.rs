//! Moves packets that were dropped after the hook from the accepted flow to the rejected flow.

use super::{
    Action, FlowKey, Table, Traffic,
    delta::{Counters, Delta},
};

impl Table {
    /// Subtracts packets dropped after the hook from the accepted flows that counted them, so that
    /// each packet is in one flow. Call once, after all counts of the window have been added.
    ///
    /// The hook counts a packet before it is dropped. If its accepted flow is no longer in this
    /// table, the packet was recorded as accepted in the previous window. That record stands, so
    /// the packet is subtracted from the rejected flow instead. Returns the sum of such packets.
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

    /// Moves the remaining headers of fragments to the rejected flow, if nothing else remains in
    /// the accepted flow.
    ///
    /// Several fragments may be dropped as one reassembled packet. The program that observes the
    /// drop knows the payload, but not always the number of fragments. Fragments that it does not
    /// know of leave only their headers in the accepted flow.
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
}

/// True if this many packets with this many bytes are IPv4 headers without payload. No packet with
/// ports is that short. IPv6 is undecidable: the headers of a fragment are as long as those of an
/// empty datagram.
fn is_headers_alone(key: &FlowKey, packets: u64, bytes: u64) -> bool {
    const IPV4_HEADER: u64 = 20;
    let has_ports = (key.source_port(), key.destination_port()) != (0, 0);
    has_ports && key.source().is_ipv4() && bytes == packets * IPV4_HEADER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{
        Direction, DropReason, Family, Icmp, InterfaceNumber, delta::example as delta,
    };

    /// Flows of a table and late packets, after adding `accepted` and `rejected` packets of one
    /// flow, 100 bytes each.
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
        // The previous window has recorded two packets in the first case, and all five in the
        // second.
        assert_eq!(ingress(&[3], &[(Netfilter, 5)]), (vec![(Reject(Netfilter), 3)], 2));
        assert_eq!(ingress(&[], &[(Netfilter, 5)]), (vec![], 5));
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

    /// Accepted and rejected packets and bytes of a flow, after fragments `counted` by the hook
    /// were dropped as `dropped`.
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
        // Fragments with 8, 8, 1,480 and 1,104 bytes of payload. The kernel reports 1,480 as the
        // largest.
        let (counted, dropped) = ((400, 268_000), (200, 264_000));
        let of = |family, ports| of_fragments(family, ports, counted, &[(Netfilter, dropped)]);
        assert_eq!(of(Family::V4, (5, 9)), [(Reject(Netfilter), counted)]);
        let two = [(Netfilter, (100, 132_000)), (SocketFilter, (100, 132_000))];
        assert_eq!(
            of_fragments(Family::V4, (5, 9), counted, &two),
            [(Reject(Netfilter), (300, 136_000)), (Reject(SocketFilter), (100, 132_000))]
        );
        // Without ports, an IP header alone may be a packet of its own.
        let apart = [(Accept, (200, 4_000)), (Reject(Netfilter), dropped)];
        assert_eq!(of(Family::V4, (0, 0)), apart);
        // The rest contains more than headers.
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
