//! XDP on a task's interface, in place of TC on ingress.
//!
//! XDP does not see all that it should: of a super-packet it is not told the segments, and what others redirect into
//! the interface passes it by. So a TC program stands behind it and counts what is left. They share their knowledge by
//! a mark in front of the packet, in the room that XDP has for that purpose (`data_meta`): a packet with a mark is
//! counted, but for the segments; one without is not.
//!
//! As for TC, packets that are not plain are left to programs that all interfaces share.

use core::arch::asm;

use aya_ebpf::{
    bindings::{__sk_buff, xdp_action, xdp_md},
    helpers::{
        bpf_xdp_adjust_meta,
        generated::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use observer_ebpf::{
    abi::Direction,
    packet::{Frame, Link, Offload, PacketBytes, parse_plain},
};

use super::{
    account::Account,
    maps::{Headers, SEGMENTS, UNUSUAL_XDP, UNUSUAL_XDP_FRAGS},
    settings::{XDP_GENERIC, XDP_MARK},
    tc::{self, Buffer, Copied, InPlace, Source, forget, forget_long},
};

/// Packets in one buffer.
#[xdp]
pub(crate) fn observe_xdp(ctx: XdpContext) -> u32 {
    observe::<false>(&ctx);
    xdp_action::XDP_PASS
}

/// Packets in one buffer or several.
#[xdp(frags)]
pub(crate) fn observe_xdp_frags(ctx: XdpContext) -> u32 {
    observe::<true>(&ctx);
    xdp_action::XDP_PASS
}

#[classifier]
pub(crate) fn observe_behind_xdp(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if !is_marked(skb) {
        tc::observe(&ctx, Direction::Ingress);
    // SAFETY: the context of the program; the verifier rewrites this read.
    } else if XDP_GENERIC.load() != 0 && unsafe { (*skb).gso_size } != 0 {
        if let Some(account) = Account::reopen(Direction::Ingress, 0) {
            account.go_on(&ctx, &SEGMENTS);
        }
    }
    tc::GO_ON
}

/// Adds what a super-packet stands for beyond the one packet that XDP counted it as.
#[classifier]
pub(crate) fn add_segments(ctx: TcContext) -> i32 {
    if let Some((account, headers, link_header)) = Account::handed_over() {
        let frame = tc::frame(ctx.skb.skb, link_header);
        if let Some(bytes) = Copied::new(Buffer(ctx.skb.skb), headers, frame.len) {
            account.segments(&bytes, frame);
        }
    }
    tc::GO_ON
}

#[inline(always)]
fn observe<const FRAGS: bool>(ctx: &XdpContext) {
    if !mark(ctx.ctx) {
        return;
    }
    let frame = frame::<FRAGS>(ctx.ctx);
    let Some(account) = Account::open(Direction::Ingress, 0, frame.len) else { return };
    if let Some(packet) = parse_plain(&in_place(ctx.ctx), frame) {
        account.packet(&packet);
    } else {
        account.go_on(ctx, if FRAGS { &UNUSUAL_XDP_FRAGS } else { &UNUSUAL_XDP });
        account.unreadable(frame);
    }
}

#[xdp]
pub(crate) fn observe_unusual_xdp(ctx: XdpContext) -> u32 {
    if let Some((account, headers, _)) = Account::handed_over() {
        account.frame(&Anywhere { place: in_place(ctx.ctx), headers }, frame::<false>(ctx.ctx));
    }
    xdp_action::XDP_PASS
}

#[xdp(frags)]
pub(crate) fn observe_unusual_xdp_frags(ctx: XdpContext) -> u32 {
    if let Some((account, headers, _)) = Account::handed_over() {
        let frame = frame::<true>(ctx.ctx);
        account.copied();
        match Copied::new(Buffers(ctx.ctx), headers, frame.len) {
            Some(bytes) => account.frame(&bytes, frame),
            None => account.unreadable(frame),
        }
    }
    xdp_action::XDP_PASS
}

/// A packet of XDP, in as many buffers as there are.
struct Buffers(*mut xdp_md);

impl Source for Buffers {
    #[inline(always)]
    unsafe fn copy(&self, offset: u32, room: *mut u8, len: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe { bpf_xdp_load_bytes(self.0, offset, room.cast(), len) == 0 }
    }
}

/// A packet in one buffer, read in place wherever a chain of headers leads: before Linux 5.18 there is no helper that
/// would copy them.
struct Anywhere {
    place: InPlace,
    headers: *mut Headers,
}

/// The verifier wants a bound; headers that the parser follows do not lead beyond this one.
const FARTHEST: u32 = 0x7fff;

impl PacketBytes for Anywhere {
    const FOLLOWS_CHAINS: bool = true;

    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        let offset = self.forget(offset);
        if offset > FARTHEST { None } else { self.place.at(offset) }
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        forget(self.headers, value)
    }

    #[inline(always)]
    fn forget_long(&self, value: u64) -> u64 {
        forget_long(self.headers, value)
    }
}

#[inline(always)]
fn in_place(ctx: *mut xdp_md) -> InPlace {
    // SAFETY: the context of the program; the verifier rewrites these reads.
    unsafe { InPlace { data: (*ctx).data as usize, end: (*ctx).data_end as usize } }
}

#[inline(always)]
fn frame<const FRAGS: bool>(ctx: *mut xdp_md) -> Frame {
    let len = if FRAGS {
        // SAFETY: the context of the program.
        unsafe { bpf_xdp_get_buff_len(ctx) as u32 }
    } else {
        let InPlace { data, end } = in_place(ctx);
        let mut len = end - data;
        // The compiler must not put this off behind a call: it would keep the half of a pointer, which the verifier refuses.
        // SAFETY: a move of a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) len, options(nomem, nostack)) };
        len as u32
    };
    Frame { len, link: Link::Ethernet, tags_beside: 0, offload: Offload { size: 0, segments: 0 } }
}

const MARK_LEN: usize = size_of::<u32>();

/// Marks the packet as counted, where there is somebody to tell; `false` where it cannot be marked, and is left to the
/// program behind.
#[inline(always)]
fn mark(ctx: *mut xdp_md) -> bool {
    let mark = XDP_MARK.load();
    if mark == 0 {
        return true;
    }
    // SAFETY: the context of the program. What lies in front of the packet is no part of it.
    unsafe {
        if bpf_xdp_adjust_meta(ctx, -(MARK_LEN as i32)) != 0 {
            return false;
        }
        let (room, data) = ((*ctx).data_meta as usize, (*ctx).data as usize);
        if room + MARK_LEN > data {
            return false;
        }
        (room as *mut u32).write_volatile(mark);
    }
    true
}

/// Whether XDP on this interface has counted the packet. A mark of another interface, which a forwarded packet may
/// still bear, is none.
#[inline(always)]
fn is_marked(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of the program, and a read between the bounds that it gives.
    unsafe {
        let (room, data) = ((*skb).data_meta as usize, (*skb).data as usize);
        room + MARK_LEN <= data && (room as *const u32).read_volatile() == XDP_MARK.load()
    }
}
