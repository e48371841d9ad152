//! TC on ingress and egress of a task's interface.

use aya_ebpf::{
    bindings::__sk_buff, helpers::bpf_skb_load_bytes, macros::classifier, programs::TcContext,
};
use observer_ebpf::{
    abi::{Clock, Direction},
    packet::{Frame, Link, Offload, PacketBytes, parse_plain},
};

use super::{
    account::Account,
    maps::{HEADER_LEN, Headers, NEAR, REPLAY, UNUSUAL},
    owners,
    settings::{LINK_HEADER, clock_is},
};

/// `TCX_NEXT` and `TC_ACT_UNSPEC`: the next program in the chain decides.
pub(super) const GO_ON: i32 = -1;

#[classifier]
pub(crate) fn observe_ingress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Ingress);
    GO_ON
}

#[classifier]
pub(crate) fn observe_egress(ctx: TcContext) -> i32 {
    observe(&ctx, Direction::Egress);
    GO_ON
}

/// Counts frames that are not plain, or whose headers are not in the linear part of the buffer.
#[classifier]
pub(crate) fn observe_unusual(ctx: TcContext) -> i32 {
    let skb = ctx.skb.skb;
    if let Some((account, headers, link_header)) = Account::handed_over() {
        let frame = frame(skb, link_header);
        account.copied();
        // SAFETY: the context of the program. The buffer of a replayed frame may be shorter than
        // the frame.
        let len = unsafe { (*skb).len };
        match Copied::new(Buffer(skb), headers, len) {
            Some(bytes) => account.frame(&bytes, frame),
            None => account.unreadable(frame),
        }
    }
    GO_ON
}

/// The baseline of the benchmarks.
#[classifier]
pub(crate) fn empty(_ctx: TcContext) -> i32 {
    GO_ON
}

/// The linear part of a packet, read in place.
pub(super) struct InPlace {
    pub(super) data: usize,
    pub(super) end: usize,
}

impl InPlace {
    #[inline(always)]
    pub(super) fn new(ctx: &TcContext) -> Self {
        Self { data: ctx.data(), end: ctx.data_end() }
    }
}

impl PacketBytes for InPlace {
    const FOLLOWS_CHAINS: bool = false;

    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        let mut start = self.data + offset as usize;
        // The verifier proves bounds for a register, not for the sum it came from: keep the
        // compiler from computing the sum again after the comparison. (An empty template would
        // break the line information in the BTF.) SAFETY: a move of a register to itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) start, options(pure, nomem, nostack)) };
        if start + N > self.end {
            return None;
        }
        // SAFETY: the verifier has just seen that these bytes lie before `data_end`; a packet is
        // never at address 0.
        unsafe {
            core::hint::assert_unchecked(start != 0);
            Some(&*(start as *const [u8; N]))
        }
    }
}

/// A packet whose bytes a helper copies, linear or not.
pub(super) trait Source {
    /// Copies `len` bytes at `offset`; returns true if all of them exist.
    ///
    /// # Safety
    ///
    /// The buffer must be large enough.
    unsafe fn copy(&self, offset: u32, room: *mut u8, len: u32) -> bool;
}

/// A socket buffer.
pub(super) struct Buffer(pub(super) *mut __sk_buff);

impl Source for Buffer {
    #[inline(always)]
    unsafe fn copy(&self, offset: u32, room: *mut u8, len: u32) -> bool {
        // SAFETY: the caller's promise.
        unsafe { bpf_skb_load_bytes(self.0.cast(), offset, room.cast(), len) == 0 }
    }
}

/// The headers of a packet, copied: the first bytes at once, headers behind them on demand.
pub(super) struct Copied<P> {
    packet: P,
    headers: *mut Headers,
    /// Number of bytes that were copied at once.
    near: u32,
}

impl<P: Source> Copied<P> {
    /// Copies the first bytes of a packet of this length; `None` on failure.
    #[inline(always)]
    pub(super) fn new(packet: P, headers: *mut Headers, len: u32) -> Option<Self> {
        let near = len.min(NEAR as u32);
        if near == 0 {
            return Some(Self { packet, headers, near });
        }
        // The verifier of Linux 6.1 does not derive `near >= 1` from `near != 0`. The mask tells
        // it; the compiler must not notice that the mask changes nothing.
        const { assert!(NEAR.is_power_of_two()) };
        let mut last = near - 1;
        // SAFETY: a move of a register to itself.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) last, options(pure, nomem, nostack)) };
        let count = (last & (NEAR as u32 - 1)) + 1;
        // SAFETY: this CPU's own room, which is long enough.
        let there = unsafe {
            let room = &raw mut (*headers).bytes;
            packet.copy(0, room.cast(), count)
        };
        if there { Some(Self { packet, headers, near }) } else { None }
    }
}

impl<P: Source> PacketBytes for Copied<P> {
    const FOLLOWS_CHAINS: bool = true;

    /// The result is valid until the next header is read. The parser finishes with each header
    /// before the next.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        const { assert!(N <= HEADER_LEN) };
        // SAFETY: a place, which nothing is read from.
        let room = unsafe { (&raw mut (*self.headers).bytes).cast::<u8>() };
        let mut place = offset;
        if offset + N as u32 > self.near {
            // SAFETY: this CPU's own room, which is long enough; the helper fails where the frame
            // is not.
            if !unsafe { self.packet.copy(offset, room.add(NEAR), N as u32) } {
                return None;
            }
            place = NEAR as u32;
        }
        // Both branches join here, as one path for the verifier.
        let place = self.forget(place);
        if place > NEAR as u32 {
            return None;
        }
        // SAFETY: the comparison above.
        unsafe { Some(&*room.add(place as usize).cast::<[u8; N]>()) }
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

/// Returns `value` without its history for the verifier. 32 bits throughout, as older verifiers
/// require for bounds.
#[inline(always)]
pub(super) fn forget(headers: *mut Headers, value: u32) -> u32 {
    // SAFETY: as below.
    unsafe {
        let place = (&raw mut (*headers).forgotten).cast::<u32>();
        place.write_volatile(value);
        place.read_volatile()
    }
}

#[inline(always)]
pub(super) fn forget_long(headers: *mut Headers, value: u64) -> u64 {
    // SAFETY: this CPU's own room. Volatile, or the compiler would know the value again.
    unsafe {
        (&raw mut (*headers).forgotten).write_volatile(value);
        (&raw const (*headers).forgotten).read_volatile()
    }
}

#[inline(always)]
pub(super) fn observe(ctx: &TcContext, direction: Direction) {
    let skb = ctx.skb.skb;
    let frame = frame(skb, LINK_HEADER.load());
    let Some(account) = Account::open(direction, owners::of(skb, direction), frame.len) else {
        return;
    };
    if let Some(packet) = parse_plain(&InPlace::new(ctx), frame) {
        account.packet(&packet);
    } else {
        account.go_on(ctx, &UNUSUAL);
        account.unreadable(frame);
    }
}

#[inline(always)]
pub(super) fn frame(skb: *mut __sk_buff, link_header: u32) -> Frame {
    // SAFETY: the context of the program; the verifier rewrites these reads.
    let (len, protocol, size) = unsafe { ((*skb).len, (*skb).protocol, (*skb).gso_size) };
    let len = if clock_is(Clock::Replay) {
        REPLAY.get(0).map_or(len, |replay| replay.frame_len)
    } else {
        len
    };
    let link =
        if link_header == 0 { Link::Bare(u16::from_be(protocol as u16)) } else { Link::Ethernet };
    // SAFETY: as above. Read only for super-packets.
    let segments = if size == 0 { 0 } else { unsafe { (*skb).gso_segs } };
    // SAFETY: as above. The compiler removes it for packets without tags.
    let tags_beside = unsafe { (*skb).vlan_present };
    Frame { len, link, tags_beside, offload: Offload { size, segments } }
}
