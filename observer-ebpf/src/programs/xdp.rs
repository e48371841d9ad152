//! XDP on a task's interface, instead of TC on ingress.
//!
//! XDP does not see everything: a super-packet comes without its segments, and packets that others
//! redirect into the interface bypass it. So a TC program behind it counts the rest. XDP marks
//! packets in the metadata in front of the packet (`data_meta`): of a marked packet TC counts only
//! the segments, an unmarked packet it counts whole.
//!
//! As with TC, packets that are not plain are handled by programs that all interfaces share.

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

/// Counts packets in one buffer.
#[xdp]
pub(crate) fn observe_xdp(ctx: XdpContext) -> u32 {
    observe::<false>(&ctx);
    xdp_action::XDP_PASS
}

/// Counts packets in one or several buffers.
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

/// Counts the segments of a super-packet that XDP counted as one packet.
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

/// A packet of XDP in any number of buffers.
struct Buffers(*mut xdp_md);

impl Source for Buffers {
    #[inline(always)]
    unsafe fn copy(&self, offset: u32, room: *mut u8, len: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe { bpf_xdp_load_bytes(self.0, offset, room.cast(), len) == 0 }
    }
}

/// A packet in one buffer, read in place at any offset: before Linux 5.18 no helper copies from an
/// XDP buffer.
struct Anywhere {
    place: InPlace,
    headers: *mut Headers,
}

/// A bound for the verifier. The parser reads no header beyond it.
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
        // The compiler must not move this behind a call: it would spill half of a pointer, which
        // the verifier refuses. SAFETY: a move of a register to itself.
        unsafe { asm!("{0} = {0}", inout(reg) len, options(nomem, nostack)) };
        len as u32
    };
    Frame { len, link: Link::Ethernet, tags_beside: 0, offload: Offload { size: 0, segments: 0 } }
}

const MARK_LEN: usize = size_of::<u32>();

/// Marks the packet as counted if a TC program is behind; returns false if it cannot be marked and
/// is left to that program.
#[inline(always)]
fn mark(ctx: *mut xdp_md) -> bool {
    let mark = XDP_MARK.load();
    if mark == 0 {
        return true;
    }
    // SAFETY: the context of the program. The metadata in front of the packet is not part of it.
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

/// True if XDP on this interface has counted the packet. A forwarded packet may have the mark of
/// another interface.
#[inline(always)]
fn is_marked(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of the program, and a read between the bounds that it gives.
    unsafe {
        let (room, data) = ((*skb).data_meta as usize, (*skb).data as usize);
        room + MARK_LEN <= data && (room as *const u32).read_volatile() == XDP_MARK.load()
    }
}
