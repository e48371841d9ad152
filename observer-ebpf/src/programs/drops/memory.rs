//! Reads of the kernel's memory.

use core::{cell::UnsafeCell, mem::MaybeUninit};

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use observer_ebpf::packet::PacketBytes;

use super::super::maps::HEADER_LEN;

/// The headers of a buffer from its network header on, copied to the stack one at a time.
pub(super) struct Headers {
    start: u64,
    /// Length of the linear part from the network header on.
    len: u32,
    room: UnsafeCell<MaybeUninit<[u8; HEADER_LEN]>>,
}

impl Headers {
    #[inline(always)]
    pub(super) fn new(start: u64, len: u32) -> Self {
        Self { start, len, room: UnsafeCell::new(MaybeUninit::uninit()) }
    }
}

impl PacketBytes for Headers {
    const FOLLOWS_CHAINS: bool = true;

    /// The result is valid until the next header is read, as in `tc`.
    #[inline(always)]
    fn at<const N: usize>(&self, offset: u32) -> Option<&[u8; N]> {
        const { assert!(N <= HEADER_LEN) };
        if offset + N as u32 > self.len {
            return None;
        }
        let room = self.room.get().cast::<u8>();
        // SAFETY: the room is long enough, and no reference to it is used after the next call; the
        // helper fails where the address is not mapped.
        unsafe {
            let from = (self.start + u64::from(offset)) as *const _;
            if bpf_probe_read_kernel(room.cast(), N as u32, from) != 0 {
                return None;
            }
            Some(&*room.cast::<[u8; N]>())
        }
    }

    #[inline(always)]
    fn forget(&self, value: u32) -> u32 {
        forget(value)
    }

    #[inline(always)]
    fn forget_long(&self, value: u64) -> u64 {
        forget(value)
    }
}

/// Returns `value` without type and history for the verifier, because it comes from a helper. The
/// helper's result is not checked, because each outcome would be verified separately; on the stack
/// it does not fail.
#[inline(always)]
pub(super) fn forget<T: Copy>(value: T) -> T {
    let mut forgotten = MaybeUninit::<T>::uninit();
    // SAFETY: room for the value; the helper always writes all of it, with zeros on failure.
    unsafe {
        let from = (&raw const value).cast();
        let _ = bpf_probe_read_kernel(forgotten.as_mut_ptr().cast(), size_of::<T>() as u32, from);
        forgotten.assume_init()
    }
}

/// A field of a structure whose type the verifier knows. It checks the offset; a load from a stale
/// address gives 0.
#[inline(always)]
pub(super) fn member<T: Copy>(of: *const u8, offset: u32) -> T {
    // SAFETY: as described.
    unsafe { of.add(offset as usize).cast::<T>().read() }
}

/// Reads a kernel address; `None` if it is not mapped.
#[inline(always)]
pub(super) fn read<T: Copy>(address: u64) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: room for the value; the helper fails where the address is not mapped.
    unsafe {
        let failed = bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            address as *const _,
        ) != 0;
        if failed { None } else { Some(value.assume_init()) }
    }
}
