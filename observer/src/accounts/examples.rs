//! Examples for the tests of this room.

use std::sync::Arc;

use super::Named;
use crate::{
    flow::{Counters, Delta, Direction, Family, FlowKey, Icmp, InterfaceNumber},
    record::Subject,
    tasks::InterfaceKey,
};

pub(super) fn number(number: u16) -> InterfaceNumber {
    InterfaceNumber::new(number)
}

/// Key of an interface in a namespace of its own.
pub(super) fn key(netns: u64) -> InterfaceKey {
    InterfaceKey { netns, birth: netns, ifindex: 2 }
}

pub(super) fn named(name: &str) -> Named {
    let subject = Subject { interface_name: name.into(), ..Subject::default() };
    Named { subject: Arc::new(subject), awaits_identity: false, older: false }
}

/// Ingress packets of one flow, 100 bytes each, one second after the start of a test's window.
pub(super) fn delta(interface: u16, flow: u64, packets: u64) -> Delta {
    Delta {
        key: FlowKey::new(
            number(interface),
            Direction::Ingress,
            Family::V6,
            17,
            ([0, flow], [0, 1]),
            (flow as u16, 53),
        ),
        counters: Counters {
            packets,
            bytes: packets * 100,
            first_ms: 61_000,
            last_ms: 61_000,
            tcp_flags_all: 0,
            tcp_flags_aws: 0,
            icmp: Icmp::None,
            undelivered: 0,
        },
    }
}
