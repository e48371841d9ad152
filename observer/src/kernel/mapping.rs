use std::{num::NonZeroUsize, os::fd::AsFd, ptr::NonNull};

use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

use super::{KernelError, Programs, object::map_fd};

/// An eBPF array in the daemon's memory.
///
/// The kernel writes the same memory. Elements are read and written whole, by volatile accesses; what keeps the two
/// sides apart is the protocol of [`Drain`](super::Drain), not the type system.
#[derive(Debug)]
pub(super) struct Mapping<T> {
    start: NonNull<T>,
    len: usize,
}

// SAFETY: a mapping is a plain address range of the process, and `T` is `Copy` data without references.
unsafe impl<T: Copy + Send> Send for Mapping<T> {}

impl<T: Copy> Mapping<T> {
    /// Maps an array of `len` elements, taking it out of a load of the object.
    pub(super) fn of(programs: &mut Programs, name: &'static str, len: usize) -> Result<Self, KernelError> {
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
        let bytes = NonZeroUsize::new(len * size_of::<T>())
            .ok_or_else(|| KernelError::call(format!("mmap of {name}"), std::io::ErrorKind::InvalidInput))?;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let start = unsafe {
            mmap(None, bytes, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED, fd, 0)
        }
        .map_err(|errno| KernelError::call(format!("mmap of {name}"), errno))?;
        Ok(Self { start: start.cast(), len })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn element(&self, index: usize) -> *mut T {
        assert!(index < self.len, "index {index} of a mapping of {}", self.len);
        // SAFETY: in bounds by the assertion.
        unsafe { self.start.as_ptr().add(index) }
    }

    /// Copies an element out.
    pub(super) fn read(&self, index: usize) -> T {
        // SAFETY: in bounds, and every bit pattern of `T` is valid: the ABI has integers only.
        unsafe { self.element(index).read_volatile() }
    }

    /// Copies the first word of an element out.
    pub(super) fn read_first(&self, index: usize) -> u64 {
        // SAFETY: in bounds, and the ABI's types begin with a word and are aligned for one.
        unsafe { self.element(index).cast::<u64>().read_volatile() }
    }

    /// Overwrites an element.
    pub(super) fn write(&self, index: usize, value: T) {
        // SAFETY: in bounds.
        unsafe { self.element(index).write_volatile(value) }
    }

    /// An element in place, for a row that no program writes now.
    ///
    /// # Safety
    /// No program may be running on this element for as long as the reference lives.
    #[expect(clippy::mut_from_ref, reason = "the memory is the kernel's; the caller vouches for its quiet")]
    pub(super) unsafe fn quiet(&self, index: usize) -> &mut T {
        // SAFETY: in bounds; the caller vouches for the rest.
        unsafe { &mut *self.element(index) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and not used after this.
        let _ = unsafe { munmap(self.start.cast(), self.len * size_of::<T>()) };
    }
}
