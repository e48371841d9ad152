//! The cause of a drop, by the kernel's reason.

use observer_ebpf::{
    abi::{DROP_VERDICTS, Direction, DropReasons, Family, KernelLayout, UNKNOWN_REASON, Verdict},
    packet::Packet,
};

use super::{
    super::settings::{LAYOUT, REASONS, VERDICTS},
    memory::{forget, read},
    words::{offset, word},
};

/// The upper half of a reason names a subsystem; the lower half is the subsystem's own reason.
const SUBSYSTEM: u32 = 0xffff_0000;
/// The cause of a drop.
#[derive(Clone, Copy)]
pub(super) struct Cause {
    /// The reason to count.
    pub(super) reason: u32,
    pub(super) direction: Direction,
    pub(super) policy: Policy,
    /// A [`Verdict`]; 0 for a policy.
    pub(super) verdict: u8,
}

/// The kind of drop: by host policy or not, and its position relative to the hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    /// No host policy, and the hook may not have seen the packet.
    None,
    /// No policy, behind the hook on ingress, and the receiver missed the packet: nobody listens,
    /// no route, an invalid packet, a full queue.
    Undelivered,
    /// By policy, and the hook has counted the packet.
    Behind,
    /// By policy, and the hook never sees the packet.
    Before,
}

impl Cause {
    #[inline(always)]
    pub(super) fn of(reason: u32, seen: Direction, receiver: u64) -> Self {
        macro_rules! reason {
            ($field:ident) => {
                reason == word!(REASONS, DropReasons, $field)
            };
        }
        let known = |direction, policy| Self { reason, direction, policy, verdict: 0 };
        if reason == UNKNOWN_REASON {
            known(seen, Policy::None)
        } else if reason & SUBSYSTEM != 0 {
            Self { reason: reason & SUBSYSTEM, ..known(seen, Policy::None) }
        } else if reason!(netfilter) {
            // All netfilter hooks on ingress are behind TC, all on egress before it.
            known(seen, if seen == Direction::Ingress { Policy::Behind } else { Policy::Before })
        } else if reason!(tc_ingress) {
            known(Direction::Ingress, Policy::Behind)
        } else if reason!(tc_egress) {
            known(Direction::Egress, Policy::Behind)
        } else if reason!(xdp) {
            known(Direction::Ingress, Policy::Before)
        } else if reason!(cgroup_egress) {
            known(Direction::Egress, Policy::Before)
        } else if reason!(socket_filter) {
            let policy = if is_without_filter(receiver) { Policy::Behind } else { Policy::None };
            known(Direction::Ingress, policy)
        } else if reason!(cpu_backlog) {
            known(Direction::Ingress, Policy::None)
        } else {
            let verdict = verdict(reason);
            let is_loss = seen == Direction::Ingress && verdict != Verdict::Delivered as u8;
            let policy = if is_loss { Policy::Undelivered } else { Policy::None };
            Self { verdict, ..known(seen, policy) }
        }
    }
}

/// True if a socket has no filter of its own, so that its control group's filter dropped the
/// packet. A socket's own filter belongs to the task, and a raw socket's filter drops copies of
/// packets that are delivered.
#[inline(always)]
fn is_without_filter(socket: u64) -> bool {
    let socket = forget(socket);
    socket != 0 && read::<u64>(socket + u64::from(offset!(sock_filter))) == Some(0)
}

/// The [`Verdict`] on a drop reason.
#[inline(always)]
fn verdict(reason: u32) -> u8 {
    if reason as usize >= DROP_VERDICTS {
        return 0;
    }
    // SAFETY: within the array; volatile, because the loader changes the value behind the
    // compiler's back.
    unsafe { (&raw const VERDICTS).cast::<u8>().add(reason as usize).read_volatile() }
}

/// True for a packet whose drop for this reason is no loss.
#[inline(always)]
pub(super) fn is_expected(packet: &Packet, verdict: u8) -> bool {
    const ICMP: u8 = 1;
    const TCP: u8 = 6;
    const ICMPV6: u8 = 58;
    const SYN: u8 = 2;
    if verdict == Verdict::UnlessEmpty as u8 {
        return match packet.protocol {
            TCP => packet.tcp_flags & SYN == 0 && packet.wire.bytes <= u64::from(packet.headers),
            ICMP | ICMPV6 => true,
            _ => false,
        };
    }
    let [first, ..] = packet.destination[0].to_ne_bytes();
    verdict == Verdict::UnlessGroup as u8 && packet.family == Family::V6 && first == 0xff
}
