//! Drops by the kernel before, behind and beside the hooks: the tracepoint `skb:kfree_skb`.
//!
//! It fires for every dropped buffer of the host. Buffers of unwatched interfaces leave after one
//! lookup. For the others the reason is counted. Packets dropped by host policy are kept by flow,
//! in halves like those of the flow cache. Incoming packets that did not reach their receiver,
//! according to the reason ([`Verdict`](observer_ebpf::abi::Verdict)), are kept separately. Packets
//! are dropped on any CPU with bottom halves on: so counts are added by atomics, and headers are
//! copied to the stack instead of a buffer that an interrupt could overwrite.
//!
//! - `cause`: the cause of a drop, by the kernel's reason
//! - `memory`: reads of the kernel's memory
//! - `words`: words of structures that the loader sets

mod cause;
mod memory;
mod words;

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_get_smp_processor_id, macros::btf_tracepoint,
    maps::HashMap, programs::BtfTracePointContext,
};
use observer_ebpf::{
    abi::{
        Direction, DropCount, DropCountKey, DropKey, DropReasons, DropSlot, DropState, FlowKey,
        KernelLayout, Loss, LossReason, Note, UNKNOWN_REASON, WatchKey,
    },
    packet::{Frame, Link, Offload, Packet, PacketBytes, Part, Skip, Wire, parse},
};

use self::{
    cause::{Cause, Policy, is_expected},
    memory::{Headers, forget, member, read},
    words::{offset, word},
};
use super::{
    clock::now,
    fragments,
    ledger::ledger_index,
    maps::{
        CONTROL, DROP_COUNTS, DROP_STATE, DROPS_EVEN, DROPS_ODD, LEDGER, UNDELIVERED_EVEN,
        UNDELIVERED_ODD, WATCHED,
    },
    settings::{DROP_ARGUMENTS, LAYOUT, REASONS},
};

/// A bit of `_skb_refdst` that is not part of the address (`SKB_DST_NOREF`).
const UNCOUNTED_REFERENCE: u64 = 1;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

#[btf_tracepoint(function = "kfree_skb")]
pub(crate) fn observe_drop(ctx: BtfTracePointContext) -> Option<()> {
    let skb = Skb(ctx.arg(0));
    // The verifier removes the branch for arguments that this kernel's tracepoint lacks.
    let reason = if DROP_ARGUMENTS.load() < 3 { UNKNOWN_REASON } else { ctx.arg(2) };
    let receiver: u64 = if DROP_ARGUMENTS.load() < 4 { 0 } else { ctx.arg(3) };

    let device: *const u8 = skb.field(offset!(skb_dev));
    let (place, direction) =
        if device.is_null() { skb.without_device(receiver)? } else { skb.at_device(device) };
    // SAFETY: the daemon replaces and removes entries; the copy is one of its values.
    let interface = unsafe { *WATCHED.get(&place)? } as u16;
    skb.count(interface, Cause::of(reason, direction, receiver))
}

/// A dropped `struct sk_buff`.
struct Skb(*const u8);

impl Skb {
    /// A field, loaded so that the verifier recognises it.
    #[inline(always)]
    fn field<T: Copy>(&self, offset: u32) -> T {
        member(self.0, offset)
    }

    /// The place of a buffer with a device.
    #[inline(always)]
    fn at_device(&self, device: *const u8) -> (WatchKey, Direction) {
        let net: *const u8 = member(device, offset!(dev_net));
        let place = WatchKey {
            netns: member(net, offset!(net_inum)),
            ifindex: member(device, offset!(dev_ifindex)),
        };
        // The incoming interface stays in the buffer, also while it is forwarded. A buffer made on
        // this host has none.
        let came_from: u32 = self.field(offset!(skb_iif));
        let direction =
            if came_from == place.ifindex { Direction::Ingress } else { Direction::Egress };
        (place, direction)
    }

    /// The place of a buffer between devices. On egress its route has the device it will leave by;
    /// on ingress TCP has cleared its device.
    #[inline(always)]
    fn without_device(&self, receiver: u64) -> Option<(WatchKey, Direction)> {
        let came_from: u32 = self.field(offset!(skb_iif));
        let direction = if came_from == 0 { Direction::Egress } else { Direction::Ingress };
        let route = self.field::<u64>(offset!(skb_dst)) & !UNCOUNTED_REFERENCE;
        let (net, leaves_by) = if route != 0 {
            let device: u64 = read(route + u64::from(offset!(dst_dev)))?;
            let net: u64 = read(device + u64::from(offset!(dev_net)))?;
            (net, read(device + u64::from(offset!(dev_ifindex)))?)
        } else {
            let own = forget(self.field(offset!(skb_sk)));
            let socket = if own == 0 { forget(receiver) } else { own };
            let family: u16 = read(socket + u64::from(offset!(sock_family)))?;
            if family != AF_INET && family != AF_INET6 {
                return None;
            }
            (read(socket + u64::from(offset!(sock_net)))?, 0)
        };
        let netns = read(net + u64::from(offset!(net_inum)))?;
        let ifindex = if came_from == 0 { leaves_by } else { came_from };
        Some((WatchKey { netns, ifindex }, direction))
    }

    #[inline(always)]
    fn count(&self, interface: u16, cause: Cause) -> Option<()> {
        let state = DROP_STATE.get_ptr_mut(0)?;
        // Otherwise the verifier verifies the parser for each cause.
        let cause = forget(cause);
        let head: u64 = self.field(offset!(skb_head));
        let network = u64::from(self.field::<u16>(offset!(skb_network_header)));
        let (len, paged): (u32, u32) =
            (self.field(offset!(skb_len)), self.field(offset!(skb_data_len)));
        // The data may begin at the link header, at the network header or behind it.
        let behind = (self.field::<u64>(offset!(skb_data)).wrapping_sub(head + network)) as u32;
        let len = len.wrapping_add(behind);
        let headers = Headers::new(head + network, len.wrapping_sub(paged));
        let protocol = u16::from_be(self.field(offset!(skb_protocol)));
        let frame =
            Frame { len, link: Link::Bare(protocol), tags_beside: 0, offload: self.offload(head) };
        let parsed = parse(&headers, frame);
        let wire = match &parsed {
            Ok(packet)
                if matches!(cause.policy, Policy::Behind | Policy::Undelivered)
                    && frame.offload.size == 0
                    && packet.fragment.part == Part::Whole =>
            {
                self.fragments(&headers, packet.wire, &cause).unwrap_or(packet.wire)
            }
            Ok(packet) => packet.wire,
            Err(Skip::Lost(_, wire)) => *wire,
            Err(Skip::NonIp(_) | Skip::Chain) => Wire { packets: 1, bytes: u64::from(len) },
        };

        count_reason(interface, &cause, wire, state);
        if cause.policy == Policy::None || interface == 0 {
            return None;
        }
        let booked = match parsed {
            Ok(packet) if is_expected(&packet, cause.verdict) => return None,
            Ok(mut packet) => {
                fragments::resolve(&mut packet, interface, cause.direction);
                // A header that ends at the end of the buffer's linear part continues in another
                // part, which cannot be read.
                let cut = matches!(
                    packet.note,
                    Some(Note::TransportTruncated | Note::ExtensionTruncated)
                );
                if cut && paged != 0 {
                    Booked::Unread
                } else if book(&packet, wire, interface, &cause, state).is_some() {
                    Booked::Yes
                } else {
                    Booked::Full
                }
            }
            Err(Skip::Lost(LossReason::IpTruncated, _)) if paged != 0 => Booked::Unread,
            // Not a packet of any flow; the hook counts these.
            Err(_) => return None,
        };
        account(booked, wire, interface, &cause, state)
    }

    /// Packets and bytes of a reassembled packet: the fragments that the hook has counted. `None`
    /// for a packet that was not fragmented.
    ///
    /// The size of its largest fragment is in the control block while the IP layer uses it: for a
    /// packet with a route, or one longer than the interface could have received. Senders make all
    /// fragments but the last of that size, and then the number of fragments follows from it.
    /// Otherwise there were more, and the daemon finds the headers of the others.
    #[inline(always)]
    fn fragments(&self, headers: &Headers, whole: Wire, cause: &Cause) -> Option<Wire> {
        const IPV6_HEADER: u32 = 40;
        const IPV6_FRAGMENT_HEADER: u32 = 8;
        let device: *const u8 = self.field(offset!(skb_dev));
        let longest: u32 = member(device, offset!(dev_mtu));
        if whole.bytes <= u64::from(longest) && !self.is_routed_in(cause) {
            return None;
        }
        let [version_and_length] = *headers.at::<1>(0)?;
        let (place, header, added) = if version_and_length >> 4 == 4 {
            (offset!(skb_fragment), u32::from(version_and_length & 0x0f) * 4, 0)
        } else {
            (offset!(skb_fragment6), IPV6_HEADER, IPV6_FRAGMENT_HEADER)
        };
        let largest: u16 = read(self.0 as u64 + u64::from(place))?;
        let each = u32::from(largest).checked_sub(header + added)? & !7;
        let payload = (whole.bytes as u32).checked_sub(header)?;
        let packets = payload.checked_add(each.checked_sub(1)?)? / each;
        if packets < 2 {
            return None;
        }
        let bytes = u64::from(payload) + u64::from(packets) * u64::from(header + added);
        Some(Wire { packets, bytes })
    }

    /// True if the packet came in, has a route, and was dropped in the IP layer.
    #[inline(always)]
    fn is_routed_in(&self, cause: &Cause) -> bool {
        let is_of_ip = cause.reason == word!(REASONS, DropReasons, netfilter)
            || cause.reason == word!(REASONS, DropReasons, socket_filter);
        is_of_ip
            && cause.direction == Direction::Ingress
            && self.field::<u64>(offset!(skb_dst)) & !UNCOUNTED_REFERENCE != 0
    }

    /// True for a super-packet.
    #[inline(always)]
    fn offload(&self, head: u64) -> Offload {
        let shared = head + u64::from(self.field::<u32>(offset!(skb_end)));
        let size: u16 = read(shared + u64::from(offset!(shared_gso_size))).unwrap_or(0);
        if size == 0 {
            return Offload { size: 0, segments: 0 };
        }
        let segments: u16 = read(shared + u64::from(offset!(shared_gso_segs))).unwrap_or(0);
        Offload { size: size.into(), segments: segments.into() }
    }
}

/// Counts a drop by its reason.
#[inline(always)]
fn count_reason(interface: u16, cause: &Cause, wire: Wire, state: *mut DropState) {
    let direction = cause.direction as u8;
    let key = DropCountKey { interface, direction, reserved: 0, reason: cause.reason };
    let first = DropCount { packets: wire.packets.into(), bytes: wire.bytes };
    // SAFETY: map values.
    unsafe {
        let counted = tally(&DROP_COUNTS, &key, &first, |count: *mut DropCount| {
            add(&raw mut (*count).packets, first.packets);
            add(&raw mut (*count).bytes, first.bytes);
        });
        match counted {
            Some(()) => (&raw mut (*state).counted).write_volatile(1),
            None => add(&raw mut (*state).uncounted, first.packets),
        }
    }
}

/// Result of adding a dropped packet to its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Booked {
    Yes,
    Full,
    Unread,
}

/// Adds to the flow's entry in the active half.
#[inline(always)]
fn book(
    packet: &Packet,
    wire: Wire,
    interface: u16,
    cause: &Cause,
    state: *mut DropState,
) -> Option<()> {
    let generation = CONTROL.get(0)?.generation;
    let rejected = cause.policy != Policy::Undelivered;
    let key = DropKey {
        flow: FlowKey {
            source: packet.source,
            destination: packet.destination,
            source_port_be: packet.source_port_be,
            destination_port_be: packet.destination_port_be,
            protocol: packet.protocol,
            tag: FlowKey::tag(generation, cause.direction, packet.family),
            interface,
        },
        reason: if rejected { cause.reason } else { 0 },
        tcp_flags: if rejected { packet.tcp_flags.into() } else { 0 },
    };
    let now = now();
    let first = DropSlot { packets: wire.packets.into(), bytes: wire.bytes, first: now, last: now };
    // SAFETY: map values.
    let more = |slot: *mut DropSlot| unsafe {
        add(&raw mut (*slot).packets, first.packets);
        add(&raw mut (*slot).bytes, first.bytes);
        (&raw mut (*slot).last).write_volatile(now);
    };
    let half = (generation & 1) as usize;
    match (rejected, half) {
        (true, 0) => tally(&DROPS_EVEN, &key, &first, more),
        (true, _) => tally(&DROPS_ODD, &key, &first, more),
        (false, 0) => tally(&UNDELIVERED_EVEN, &key, &first, more),
        (false, _) => tally(&UNDELIVERED_ODD, &key, &first, more),
    }?;
    // SAFETY: a map value.
    unsafe { (&raw mut (*state).used).cast::<u64>().add(half).write_volatile(1) };
    Some(())
}

/// Keeps the ledger complete: packets that never reached the hook have their own counts, and
/// unreadable ones are counted too.
#[inline(always)]
fn account(
    booked: Booked,
    wire: Wire,
    interface: u16,
    cause: &Cause,
    state: *mut DropState,
) -> Option<()> {
    if cause.policy == Policy::Undelivered {
        if booked != Booked::Yes {
            // SAFETY: a map value.
            unsafe { add(&raw mut (*state).undelivered_full, wire.packets.into()) };
        }
        return Some(());
    }
    if cause.policy == Policy::Behind {
        // SAFETY: a map value.
        unsafe {
            match booked {
                Booked::Yes => {}
                Booked::Full => add(&raw mut (*state).table_full, wire.packets.into()),
                Booked::Unread => add(&raw mut (*state).unread, wire.packets.into()),
            }
        }
        return Some(());
    }
    // SAFETY: a helper without arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let ledger = LEDGER.get_ptr_mut(ledger_index(interface, cause.direction, cpu))?;
    // SAFETY: a map value; these of its words only this program writes.
    unsafe {
        add_wire(&raw mut (*ledger).stopped, wire);
        if booked != Booked::Yes {
            let lost = (&raw mut (*ledger).lost).cast::<Loss>();
            add_wire(lost.add(LossReason::DropUnbooked as usize), wire);
        }
    }
    Some(())
}

/// Inserts `first` under a key, or adds to an existing value; `None` without room.
#[inline(always)]
fn tally<K, V>(map: &HashMap<K, V>, key: &K, first: &V, more: impl Fn(*mut V)) -> Option<()> {
    if let Some(found) = map.get_ptr_mut(key) {
        more(found);
        return Some(());
    }
    if map.insert(key, first, u64::from(BPF_NOEXIST)).is_err() {
        // The map is full, unless another CPU inserted the key first.
        more(map.get_ptr_mut(key)?);
    }
    Some(())
}

#[inline(always)]
unsafe fn add_wire(to: *mut Loss, wire: Wire) {
    // SAFETY: the caller's.
    unsafe {
        add(&raw mut (*to).packets, wire.packets.into());
        add(&raw mut (*to).bytes, wire.bytes);
    }
}

/// Adds atomically. Core's atomics for this target return the old value, which old kernels do not
/// support.
#[inline(always)]
unsafe fn add(to: *mut u64, value: u64) {
    // SAFETY: the caller's: an aligned word of a map's value.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) to, in(reg) value, options(nostack)) };
}
