//! Packets of many flows for benchmarks: a test run repeats the same bytes, so the source address
//! is varied after parsing. All programs here do the same, so that their costs can be compared.

use aya_ebpf::{
    Global,
    bindings::__sk_buff,
    macros::{classifier, map},
    maps::{PerCpuArray, PerCpuHashMap},
    programs::TcContext,
};
use observer_ebpf::{
    abi::{Direction, FlowKey},
    packet::{Packet, parse_plain},
};

use super::{
    account::{Account, control},
    cache::Count,
    clock::now,
    settings::LINK_HEADER,
    tc::{GO_ON, InPlace, frame},
};

/// Mask of the flow number: a power of two minus 1.
#[unsafe(no_mangle)]
static FLOW_MASK: Global<u32> = Global::new(0);

#[map]
static SEQUENCE: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The next packet, by a linear congruential generator, whose upper bits are the best ones.
#[inline(always)]
fn vary(packet: &mut Packet) -> Option<()> {
    let state = SEQUENCE.get_ptr_mut(0)?;
    // SAFETY: this CPU's own.
    let next = unsafe {
        *state = (*state).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *state >> 33
    };
    packet.source[1] ^= u64::from(next as u32 & FLOW_MASK.load()) << 32;
    Some(())
}

#[inline(always)]
fn varied(ctx: &TcContext) -> Option<(Account, Packet)> {
    let skb: *mut __sk_buff = ctx.skb.skb;
    let frame = frame(skb, LINK_HEADER.load());
    let account = Account::open(Direction::Ingress, 0, frame.len)?;
    let mut packet = parse_plain(&InPlace::new(ctx), frame)?;
    vary(&mut packet)?;
    Some((account, packet))
}

/// The packet path of the product.
#[classifier]
pub(crate) fn varied_cache(ctx: TcContext) -> i32 {
    if let Some((account, packet)) = varied(&ctx) {
        account.packet(&packet);
    }
    GO_ON
}

/// The packet path with a hash map instead of the cache.
#[classifier]
pub(crate) fn varied_hash(ctx: TcContext) -> i32 {
    if let Some((account, packet)) = varied(&ctx) {
        account.seen(packet.wire);
        if let Some(control) = control() {
            let (key, count) = account.entry(&packet, control.generation);
            add(&key, count);
        }
    }
    GO_ON
}

#[map]
static TWIN: PerCpuHashMap<FlowKey, Value> = PerCpuHashMap::with_max_entries(1, 0);

#[repr(C)]
#[derive(Clone, Copy)]
struct Value {
    bytes: u64,
    packets_and_flags: u64,
    first: u32,
    last: u32,
}

#[inline(always)]
fn add(key: &FlowKey, count: Count) {
    let now = now();
    match TWIN.get_ptr_mut(key) {
        Some(value) => {
            // SAFETY: this CPU's own.
            let value = unsafe { &mut *value };
            value.bytes += count.bytes;
            value.packets_and_flags += count.packets_and_flags & 0xffff_ffff_ffff;
            value.packets_and_flags |= count.packets_and_flags & !0xffff_ffff_ffff;
            value.last = now;
        }
        None => {
            let Count { bytes, packets_and_flags } = count;
            let _ = TWIN.insert(key, Value { bytes, packets_and_flags, first: now, last: now }, 0);
        }
    }
}
