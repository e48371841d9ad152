//! The owner of a flow on an interface that the tasks of a host share: the control group of the
//! sending socket.
//!
//! Used on the host's own interfaces only. Incoming packets have no socket yet; the daemon derives
//! their owner from the flow of the replies.

use aya_ebpf::{bindings::__sk_buff, helpers::generated::bpf_skb_cgroup_id};
use observer_ebpf::abi::{Direction, FlowKey};

use super::{maps::OWNERS, settings::SHARED};

/// The root control group, which belongs to no task.
pub(super) const ROOT: u64 = 1;

/// The control group (version 2) of the sending socket; 0 if this load does not need it, or without
/// a socket.
#[inline(always)]
pub(super) fn of(skb: *mut __sk_buff, direction: Direction) -> u64 {
    match direction {
        // SAFETY: the context of the program. A packet without a socket belongs to group 0.
        Direction::Egress if SHARED.load() != 0 => unsafe { bpf_skb_cgroup_id(skb) },
        _ => 0,
    }
}

/// Reports the owner of a new entry to the daemon. Without room, the flow belongs to the host.
#[inline(always)]
pub(super) fn note(key: &FlowKey, owner: &u64) {
    // The key is not copied, generation included: a copy would exceed the stack of older verifiers.
    let _ = OWNERS.insert(key, owner, 0);
}
