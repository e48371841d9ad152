//! Prefixes of the packet path for benchmarks: each program adds one step, to show the cost of
//! each.

use core::arch::asm;

use aya_ebpf::{macros::classifier, programs::TcContext};
use observer_ebpf::{
    abi::Direction,
    packet::{Packet, parse_plain},
};

use super::{
    account::Account,
    clock::now,
    settings::LINK_HEADER,
    tc::{GO_ON, InPlace, frame},
};

/// Finds all fields of the headers.
#[classifier]
pub(crate) fn step_parse(ctx: TcContext) -> i32 {
    if let Some(packet) = parse_plain(&InPlace::new(&ctx), frame(ctx.skb.skb, LINK_HEADER.load())) {
        keep(&packet);
    }
    GO_ON
}

/// Counts the packet in the ledger as well.
#[classifier]
pub(crate) fn step_ledger(ctx: TcContext) -> i32 {
    if let Some(packet) = counted(&ctx) {
        keep(&packet);
    }
    GO_ON
}

/// Reads the clock as well. The remaining cost of the whole program is the flow cache.
#[classifier]
pub(crate) fn step_clock(ctx: TcContext) -> i32 {
    if let Some(packet) = counted(&ctx) {
        keep(&packet);
        need(u64::from(now()));
    }
    GO_ON
}

#[inline(always)]
fn counted(ctx: &TcContext) -> Option<Packet> {
    let frame = frame(ctx.skb.skb, LINK_HEADER.load());
    let account = Account::open(Direction::Ingress, 0, frame.len)?;
    let packet = parse_plain(&InPlace::new(ctx), frame)?;
    account.seen(packet.wire);
    Some(packet)
}

/// Makes the compiler compute all inputs of a flow's key and counts.
#[inline(always)]
fn keep(packet: &Packet) {
    let [source, destination] = [packet.source, packet.destination];
    let ports = (packet.source_port_be, packet.destination_port_be);
    let small = [ports.0.into(), ports.1.into(), packet.protocol.into(), packet.tcp_flags.into()];
    for word in [source[0], source[1], destination[0], destination[1], packet.wire.bytes] {
        need(word);
    }
    for word in small {
        need(word);
    }
}

#[inline(always)]
fn need(word: u64) {
    // SAFETY: a move of a register to itself.
    unsafe { asm!("{0} = {0}", inout(reg) word => _, options(nomem, nostack)) };
}
