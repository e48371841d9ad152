//! Reader of a BPF ring buffer whose entries stay in the kernel until they are released.
//!
//! Not by aya, which releases each entry as it is read. An entry that is released before it is in
//! the journal would be lost with the daemon.

use std::{
    num::NonZeroUsize,
    os::fd::BorrowedFd,
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};

use super::KernelError;

/// Bits of an entry's header (`BPF_RINGBUF_BUSY_BIT`, `BPF_RINGBUF_DISCARD_BIT`).
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// Length of an entry's header. Entries are aligned to it.
const HEADER: u64 = 8;

/// A ring buffer mapped into memory, as `kernel/bpf/ringbuf.c` lays it out: a page with the
/// consumer's position, a page with the producers', and the data twice in a row, so that an entry at
/// the end is contiguous.
#[derive(Debug)]
pub(super) struct Ring {
    consumer: Pages,
    /// The producers' page and the data.
    produced: Pages,
    page: usize,
    size: u64,
    /// Position after the last entry that was read.
    read: u64,
}

// SAFETY: plain address ranges of the process, used by one reader.
unsafe impl Send for Ring {}

impl Ring {
    /// Maps the ring behind `fd`, which has `size` bytes. Reading begins with the first entry that
    /// is not released.
    pub(super) fn new(fd: BorrowedFd<'_>, size: u32) -> Result<Self, KernelError> {
        let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096) as usize;
        let consumer = Pages::map(fd, page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 0)?;
        let produced =
            Pages::map(fd, page + 2 * size as usize, ProtFlags::PROT_READ, page as libc::off_t)?;
        let mut ring = Self { consumer, produced, page, size: u64::from(size), read: 0 };
        ring.read = ring.released();
        Ok(ring)
    }

    fn position(&self) -> &AtomicU64 {
        // SAFETY: the page begins with the position.
        unsafe { self.consumer.start.cast::<AtomicU64>().as_ref() }
    }

    /// Position after the last entry that was released.
    pub(super) fn released(&self) -> u64 {
        self.position().load(Ordering::Relaxed)
    }

    /// Position after the last entry that was read.
    pub(super) const fn position_read(&self) -> u64 {
        self.read
    }

    /// Passes each entry that was not read yet to `take`, as far as the producers have written
    /// them.
    pub(super) fn read(&mut self, mut take: impl FnMut(&[u8])) {
        // SAFETY: the page begins with the position.
        let produced = unsafe { self.produced.start.cast::<AtomicU64>().as_ref() };
        let end = produced.load(Ordering::Acquire);
        while self.read < end {
            let at = self.page + (self.read % self.size) as usize;
            // SAFETY: within the mapping: positions modulo the size lie in its data.
            let header = unsafe { self.produced.start.add(at).cast::<AtomicU32>().as_ref() };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return;
            }
            let length = header & !DISCARDED;
            if header & DISCARDED == 0 {
                // SAFETY: the kernel has written this many bytes behind the header, and the data is
                // mapped twice. They are not overwritten before they are released.
                take(unsafe {
                    std::slice::from_raw_parts(
                        self.produced.start.add(at + HEADER as usize).as_ptr(),
                        length as usize,
                    )
                });
            }
            self.read += (u64::from(length) + HEADER).next_multiple_of(HEADER);
        }
    }

    /// Releases all entries that were read.
    pub(super) fn release(&self) {
        self.position().store(self.read, Ordering::Release);
    }

    /// Skips the entries before `position`, which an earlier reader has read and not released.
    pub(super) fn skip_to(&mut self, position: u64) {
        if position > self.read {
            self.read = position;
            self.release();
        }
    }
}

/// Pages of a map, mapped into memory.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    len: NonZeroUsize,
}

impl Pages {
    fn map(
        fd: BorrowedFd<'_>,
        len: usize,
        access: ProtFlags,
        offset: libc::off_t,
    ) -> Result<Self, KernelError> {
        let failed = |error: std::io::Error| KernelError::call("mmap of a ring buffer", error);
        let len = NonZeroUsize::new(len)
            .ok_or_else(|| failed(std::io::ErrorKind::InvalidInput.into()))?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(None, len, access, MapFlags::MAP_SHARED, fd, offset) };
        Ok(Self { start: start.map_err(|errno| failed(errno.into()))?.cast(), len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `map` with this length, and not used afterwards.
        let _ = unsafe { munmap(self.start.cast(), self.len.get()) };
    }
}
