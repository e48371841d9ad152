//! TC on ingress and egress of a task's interface.

use aya_ebpf::{bindings::__sk_buff, helpers::bpf_skb_load_bytes, macros::classifier, programs::TcContext};
use observer_ebpf::{
    abi::Direction,
    packet::{Frame, Link, Offload, PacketBytes},
};

use super::{
    account::{Account, Read},
    maps::{HEADERS, HEADERS_LEN},
    settings::LINK_HEADER,
};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: whatever stands behind us in the chain decides.
const GO_ON: i32 = -1;

#[classifier]
pub fn observe_ingress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Ingress);
    GO_ON
}

#[classifier]
pub fn observe_egress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Egress);
    GO_ON
}

/// The floor that the benchmarks compare with.
#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    GO_ON
}

/// The linear part of a packet, read in place.
struct InPlace {
    data: usize,
    end: usize,
}

impl PacketBytes for InPlace {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        let mut start = self.data + offset as usize;
        // The verifier proves bounds for a register, not for the sum it came from: keep the compiler from computing
        // the sum again behind the comparison. (An empty template would break the line information in the BTF.)
        // SAFETY: a move of a register to itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) start, options(pure, nomem, nostack)) };
        if start + N > self.end {
            return None;
        }
        // SAFETY: the verifier has just seen that these bytes lie before `data_end`.
        Some(unsafe { &*(start as *const [u8; N]) })
    }
}

/// The headers of a packet, copied out of it.
struct Copied<'a> {
    headers: &'a [u8; HEADERS_LEN],
    len: u32,
}

impl PacketBytes for Copied<'_> {
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        if offset > (HEADERS_LEN - N) as u32 || offset + N as u32 > self.len {
            return None;
        }
        // SAFETY: the comparison above.
        Some(unsafe { &*self.headers.as_ptr().add(offset as usize).cast::<[u8; N]>() })
    }
}

#[inline(always)]
fn observe(ctx: &TcContext, direction: Direction) {
    let skb = ctx.skb.skb;
    let frame = frame(skb);
    let Some(account) = Account::open(direction, frame.len) else { return };
    let bytes = InPlace { data: ctx.data(), end: ctx.data_end() };
    if let Read::Cut = account.packet(&bytes, frame, bytes.end - bytes.data < frame.len as usize) {
        observe_copied(skb, direction);
    }
}

/// The way of packets whose headers lie in page fragments, out of line because it is rare.
#[inline(never)]
fn observe_copied(skb: *mut __sk_buff, direction: Direction) {
    let frame = frame(skb);
    let Some(account) = Account::reopen(direction) else { return };
    let Some(headers) = HEADERS.get_ptr_mut(0) else { return };
    let len = if frame.len > HEADERS_LEN as u32 { HEADERS_LEN as u32 } else { frame.len };
    if len == 0 {
        return;
    }
    // SAFETY: the room is this CPU's own while the program runs, and `len` is at most its size.
    let headers = unsafe {
        if bpf_skb_load_bytes(skb.cast(), 0, headers.cast(), len) != 0 {
            return;
        }
        &*headers
    };
    account.copied();
    account.packet(&Copied { headers, len }, frame, false);
}

#[inline(always)]
fn frame(skb: *mut __sk_buff) -> Frame {
    // SAFETY: the context of the program; the verifier rewrites these reads.
    let (len, protocol, size) = unsafe { ((*skb).len, (*skb).protocol, (*skb).gso_size) };
    let link = if LINK_HEADER.load() == 0 {
        Link::Bare(u16::from_be(protocol as u16))
    } else {
        Link::Ethernet
    };
    // SAFETY: as above. Read apart, because it is needed for super-packets only.
    let segments = if size == 0 { 0 } else { unsafe { (*skb).gso_segs } };
    Frame { len, link, offload: Offload { size, segments } }
}
