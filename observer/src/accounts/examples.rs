//! Parts that the tests of this room are made of.

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

/// An interface of a namespace of its own.
pub(super) fn key(netns: u64) -> InterfaceKey {
    InterfaceKey { netns, birth: netns, ifindex: 2 }
}

pub(super) fn named(name: &str) -> Named {
    let subject = Subject { interface_name: name.into(), ..Subject::default() };
    Named { subject: Arc::new(subject), awaits_identity: false, older: false }
}

/// So many packets of 100 bytes of one flow, towards the interface, in the second after the window
/// of a test begins.
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
