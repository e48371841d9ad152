//! Entries of the flow cache, converted to the types of [`flow`](crate::flow).

use observer_ebpf::abi::{FlowKey, FlowSlot};

use super::ticks::Ticks;
use crate::flow::{Counters, Delta, Icmp, InterfaceNumber};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

const fn is_icmp(protocol: u8) -> bool {
    matches!(protocol, ICMP | ICMPV6)
}

/// Converts the key of an entry.
pub(super) fn flow_of(key: &FlowKey) -> crate::flow::FlowKey {
    // The source port of ICMP holds type and code. VPC Flow Logs leave them out of the 5-tuple.
    let ports = if is_icmp(key.protocol) {
        (0, 0)
    } else {
        (u16::from_be(key.source_port_be), u16::from_be(key.destination_port_be))
    };
    crate::flow::FlowKey::new(
        InterfaceNumber::new(key.interface),
        key.direction(),
        key.family(),
        key.protocol,
        (key.source, key.destination),
        ports,
    )
}

/// Converts an entry, with its times in UNIX milliseconds.
pub(super) fn delta_of(ticks: Ticks, slot: &FlowSlot) -> Delta {
    let FlowKey { source_port_be, destination_port_be, protocol, .. } = slot.key;
    let mut icmp = Icmp::None;
    if is_icmp(protocol) && destination_port_be != 0 {
        let [kind, code] = source_port_be.to_ne_bytes();
        icmp = Icmp::One { kind, code };
    }
    Delta {
        key: flow_of(&slot.key),
        counters: Counters {
            packets: slot.packets(),
            bytes: slot.bytes,
            first_ms: ticks.unix_ms(slot.first),
            last_ms: ticks.unix_ms(slot.last),
            tcp_flags_all: slot.tcp_flags_all(),
            tcp_flags_aws: slot.tcp_flags_aws(),
            icmp,
            undelivered: 0,
        },
    }
}
