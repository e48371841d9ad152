//! Whose a flow is, on an interface that the tasks of a host share: the control group of the socket that sends.
//!
//! Only the host's own interfaces are loaded for that. What comes in has no socket yet; the daemon names it after the
//! flow that answers.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_cgroup_id};
use observer_ebpf::abi::{Direction, FlowKey};

use super::{maps::OWNERS, settings::SHARED};

/// The root of all control groups, which is nobody's.
pub(super) const ROOT: u64 = 1;

/// The control group of version 2 whose socket sends a packet; 0 where that is not asked for, or nobody's.
#[inline(always)]
pub(super) fn of(skb: *mut __sk_buff, direction: Direction) -> u64 {
    match direction {
        // SAFETY: the context of the program. A packet without a socket belongs to group 0.
        Direction::Egress if SHARED.load() != 0 => unsafe { bpf_skb_cgroup_id(skb) },
        _ => 0,
    }
}

/// Tells the daemon whose a new entry of the cache is. Where there is no room, the flow is the host's.
#[inline(always)]
pub(super) fn note(key: &FlowKey, owner: &u64) {
    // The key as it is, generation included: a copy would take more of the stack than older verifiers leave.
    let _ = OWNERS.insert(key, owner, 0);
}
