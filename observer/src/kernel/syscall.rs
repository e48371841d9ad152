//! `bpf(2)` itself, for what aya has no call for: maps by the batch, and maps that nobody has typed.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use super::KernelError;

pub(super) const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
pub(super) const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;

/// The beginning of `union bpf_attr` for single elements.
#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The same for batches.
#[repr(C)]
struct Batch {
    start: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The same for information.
#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    to: u64,
}

/// Calls it; `attributes` must be the beginning of `union bpf_attr` for the command.
pub(super) fn bpf<T>(command: libc::c_long, attributes: &mut T, call: &str) -> Result<RawFd, KernelError> {
    // SAFETY: as stated; the kernel takes the rest as zeros, and writes within what it was given only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(KernelError::Call { call: call.into(), source: io::Error::last_os_error() });
    }
    Ok(result as RawFd)
}

/// Sets an element. The map's keys and values must be of these types.
pub(super) fn update<K: Copy, V: Copy>(map: BorrowedFd<'_>, key: &K, value: &V) -> Result<(), KernelError> {
    let mut attributes = element(map, key);
    attributes.value = (&raw const *value) as u64;
    bpf(MAP_UPDATE_ELEM, &mut attributes, "BPF_MAP_UPDATE_ELEM").map(drop)
}

/// Removes an element, if it is there.
pub(super) fn delete<K: Copy>(map: BorrowedFd<'_>, key: &K) -> Result<(), KernelError> {
    match bpf(MAP_DELETE_ELEM, &mut element(map, key), "BPF_MAP_DELETE_ELEM") {
        Err(KernelError::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result.map(drop),
    }
}

fn element<K: Copy>(map: BorrowedFd<'_>, key: &K) -> Element {
    let (map_fd, key) = (map.as_raw_fd() as u32, (&raw const *key) as u64);
    Element { map_fd, padding: 0, key, value: 0, flags: 0 }
}

/// How often the programs of this descriptor were not run, because they were running on the same CPU already. 0 where
/// the kernel does not count that (before Linux 5.12).
pub(super) fn misses(program: BorrowedFd<'_>) -> Result<u64, KernelError> {
    /// Of `recursion_misses` in `struct bpf_prog_info`.
    const AT: usize = 208;
    let mut info = [0_u64; AT / 8 + 1];
    let mut attributes =
        Info { fd: program.as_raw_fd() as u32, len: size_of_val(&info) as u32, to: (&raw mut info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes, "BPF_OBJ_GET_INFO_BY_FD")?;
    Ok(info[AT / 8])
}

/// The id of the program behind a descriptor.
pub(super) fn program_id(program: BorrowedFd<'_>) -> Result<u32, KernelError> {
    /// Words of `struct bpf_prog_info`: type, id.
    const ID: usize = 1;
    Ok(info::<2>(program.as_raw_fd())?[ID])
}

/// Whether a program with this id is loaded. Ids are given away in turn, and come again after two thousand million.
pub(super) fn is_loaded(program: u32) -> Result<bool, KernelError> {
    /// The same as far as it goes: where to begin, and the answer.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        open_flags: u32,
    }
    let mut attributes = NextId { start: program.wrapping_sub(1), next: 0, open_flags: 0 };
    match bpf(PROG_GET_NEXT_ID, &mut attributes, "BPF_PROG_GET_NEXT_ID") {
        Ok(_) => Ok(attributes.next == program),
        Err(KernelError::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The state of a link to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// The program's id.
    pub(super) program: u32,
    /// The interface's index; 0 where the link is detached.
    pub(super) ifindex: u32,
}

/// Asks about a link of TCX or XDP.
pub(super) fn link_info(link: &OwnedFd) -> Result<LinkInfo, KernelError> {
    /// Words of `struct bpf_link_info`: type, id, program, padding, and what depends on the type.
    const PROGRAM: usize = 2;
    const IFINDEX: usize = 4;
    let info = info::<{ IFINDEX + 2 }>(link.as_raw_fd())?;
    Ok(LinkInfo { program: info[PROGRAM], ifindex: info[IFINDEX] })
}

/// The first words that the kernel tells of an object.
fn info<const WORDS: usize>(fd: RawFd) -> Result<[u32; WORDS], KernelError> {
    let mut info = [0_u32; WORDS];
    let mut attributes = Info { fd: fd as u32, len: size_of_val(&info) as u32, to: (&raw mut info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes, "BPF_OBJ_GET_INFO_BY_FD")?;
    Ok(info)
}

/// What becomes of elements that were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    /// For a map that nobody writes to at the moment: what is added between reading and removing would be lost.
    Remove,
}

/// Room for elements of a hash map, as many as are read in one call.
#[derive(Debug)]
pub(super) struct Elements<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Copy + Default, V: Copy + Default> Elements<K, V> {
    /// Elements in a call: a few hundred KiB, and few calls.
    const CHUNK: usize = 4096;

    pub(super) const fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    /// Reads all elements of a map whose keys and values are of these types (Linux 5.6).
    pub(super) fn read(
        &mut self,
        map: BorrowedFd<'_>,
        after: After,
        mut take: impl FnMut(&K, &V),
    ) -> Result<u64, KernelError> {
        let (command, call) = match after {
            After::Keep => (MAP_LOOKUP_BATCH, "BPF_MAP_LOOKUP_BATCH"),
            After::Remove => (MAP_LOOKUP_AND_DELETE_BATCH, "BPF_MAP_LOOKUP_AND_DELETE_BATCH"),
        };
        self.grow(Self::CHUNK.max(self.keys.len()));
        let (mut place, mut next, mut started, mut total) = (0_u32, 0_u32, false, 0);
        loop {
            let mut attributes = Batch {
                start: if started { (&raw const place) as u64 } else { 0 },
                next: (&raw mut next) as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: self.keys.len() as u32,
                map_fd: map.as_raw_fd() as u32,
                elem_flags: 0,
                flags: 0,
            };
            let result = bpf(command, &mut attributes, call);
            let errno = match &result {
                Ok(_) => 0,
                Err(KernelError::Call { source, .. }) => source.raw_os_error().unwrap_or(0),
                Err(_) => -1,
            };
            match errno {
                0 | libc::ENOENT => {}
                // More elements in one bucket than there is room for.
                libc::ENOSPC => {
                    self.grow(self.keys.len() * 2);
                    continue;
                }
                _ => return result.map(|_| total),
            }
            let count = attributes.count as usize;
            for (key, value) in self.keys.iter().zip(&self.values).take(count) {
                take(key, value);
            }
            total += count as u64;
            if errno != 0 {
                return Ok(total);
            }
            (place, started) = (next, true);
        }
    }

    fn grow(&mut self, len: usize) {
        self.keys.resize(len, K::default());
        self.values.resize(len, V::default());
    }
}
