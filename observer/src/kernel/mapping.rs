//! eBPF arrays mapped into memory.

use std::{num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{KernelError, Programs, syscall::map_fd};

/// An eBPF array mapped into the daemon's memory.
///
/// Programs write the same memory. Elements are read and written whole, by volatile accesses. The
/// protocol of [`Drain`](super::Drain) prevents races; the type system does not.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: a mapping is a plain address range of the process, and `T` is `Copy` data without
// references.
unsafe impl<T: Copy + Send> Send for Mapping<T> {}

impl<T: Copy> Mapping<T> {
    /// Maps an array of `len` elements, taking it out of the object of `programs`.
    pub(super) fn of(
        programs: &mut Programs,
        name: &'static str,
        len: usize,
    ) -> Result<Self, KernelError> {
        let data = programs.take_map(name)?;
        Self::new(map_fd(&data), len, name)
    }

    /// Maps `len` elements of the array behind `fd`.
    pub(super) fn new(fd: impl AsFd, len: usize, name: &'static str) -> Result<Self, KernelError> {
        const {
            assert!(
                align_of::<T>() <= 4096 && size_of::<T>().is_multiple_of(8),
                "array values lie 8-byte aligned"
            );
        };
        let bytes = NonZeroUsize::new(len * size_of::<T>()).ok_or_else(|| {
            KernelError::call(format!("mmap of {name}"), std::io::ErrorKind::InvalidInput)
        })?;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED,
                fd,
                0,
            )
        }
        .map_err(|errno| KernelError::call(format!("mmap of {name}"), errno))?;
        Ok(Self { start: start.cast(), len })
    }

    /// Number of elements.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Address of an element. Panics if `index` is out of bounds.
    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "index {index} of a mapping of {}", self.len);
        // SAFETY: in bounds by the assertion.
        unsafe { self.start.as_ptr().add(index) }
    }

    /// Copies an element out.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: in bounds, and every bit pattern of `T` is valid, because the ABI has only
        // integers.
        unsafe { self.element(index).read_volatile() }
    }

    /// Copies the first word of an element out.
    pub(super) fn read_first(&self, index: usize) -> u64 {
        // SAFETY: in bounds, and the types of the ABI begin with an aligned word.
        unsafe { self.element(index).cast::<u64>().read_volatile() }
    }

    /// Overwrites an element.
    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: in bounds.
        unsafe { self.element(index).write_volatile(value) }
    }

    /// Reference to an element that no program uses now.
    ///
    /// # Safety
    /// No program may access this element while the reference lives.
    #[expect(
        clippy::mut_from_ref,
        reason = "the memory is shared with the kernel; the caller guarantees exclusive access"
    )]
    pub(super) unsafe fn quiet(&self, index: usize) -> &mut T {
        // SAFETY: in bounds, and the caller guarantees exclusive access.
        unsafe { &mut *self.element(index) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and not used afterwards.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) };
    }
}
