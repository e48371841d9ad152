//! Calls of `bpf(2)` that aya does not offer: batches of map elements, untyped maps, and
//! information on programs and links.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::maps::MapData;

use super::KernelError;

pub(super) const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
pub(super) const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_NEXT_ID: libc::c_long = 11;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_LOOKUP_BATCH: libc::c_long = 24;
const MAP_LOOKUP_AND_DELETE_BATCH: libc::c_long = 25;

/// Beginning of `union bpf_attr` for commands on one element.
#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Beginning of `union bpf_attr` for commands on batches.
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

/// Beginning of `union bpf_attr` for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
struct Info {
    fd: u32,
    len: u32,
    to: u64,
}

/// Calls `bpf(2)`. `attributes` must be the beginning of `union bpf_attr` for the command; `call`
/// names it in errors.
pub(super) fn bpf<T>(
    command: libc::c_long,
    attributes: &mut T,
    call: &str,
) -> Result<RawFd, KernelError> {
    // SAFETY: `attributes` fits the command, as required of the caller. The kernel takes missing
    // fields as zeros, and writes only within the given size.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(KernelError::Call { call: call.into(), source: io::Error::last_os_error() });
    }
    Ok(result as RawFd)
}

/// Beginning of `union bpf_attr` for commands on pins.
#[repr(C)]
struct Pin {
    path: u64,
    fd: u32,
    flags: u32,
}

/// Pins a program, map or link to a new file on a BPF file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> Result<(), KernelError> {
    let name = c_path(path)?;
    let mut attributes =
        Pin { path: name.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 };
    bpf(OBJ_PIN, &mut attributes, &format!("pinning {}", path.display())).map(drop)
}

/// Opens a pinned object.
pub(super) fn pinned(path: &Path) -> Result<OwnedFd, KernelError> {
    let name = c_path(path)?;
    let mut attributes = Pin { path: name.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(OBJ_GET, &mut attributes, &format!("opening {}", path.display()))?;
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn c_path(path: &Path) -> Result<CString, KernelError> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|error| KernelError::call(path.display().to_string(), io::Error::from(error)))
}

/// Descriptor of a map.
pub(super) fn map_fd(data: &MapData) -> BorrowedFd<'_> {
    data.fd().as_fd()
}

/// Sets an element. `K` and `V` must be the types of the map's keys and values.
pub(super) fn update<K: Copy, V: Copy>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> Result<(), KernelError> {
    let mut attributes = element(map, key);
    attributes.value = (&raw const *value) as u64;
    bpf(MAP_UPDATE_ELEM, &mut attributes, "BPF_MAP_UPDATE_ELEM").map(drop)
}

/// Removes an element, if it exists. `K` must be the type of the map's keys.
pub(super) fn delete<K: Copy>(map: BorrowedFd<'_>, key: &K) -> Result<(), KernelError> {
    match bpf(MAP_DELETE_ELEM, &mut element(map, key), "BPF_MAP_DELETE_ELEM") {
        Err(KernelError::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Ok(())
        }
        result => result.map(drop),
    }
}

fn element<K: Copy>(map: BorrowedFd<'_>, key: &K) -> Element {
    let (map_fd, key) = (map.as_raw_fd() as u32, (&raw const *key) as u64);
    Element { map_fd, padding: 0, key, value: 0, flags: 0 }
}

/// Number of times a program did not run because it was already running on the same CPU. Always 0
/// before Linux 5.12.
pub(super) fn misses(program: BorrowedFd<'_>) -> Result<u64, KernelError> {
    /// Offset of `recursion_misses` in `struct bpf_prog_info`.
    const AT: usize = 208;
    let mut info = [0_u64; AT / 8 + 1];
    let mut attributes = Info {
        fd: program.as_raw_fd() as u32,
        len: size_of_val(&info) as u32,
        to: (&raw mut info) as u64,
    };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes, "BPF_OBJ_GET_INFO_BY_FD")?;
    Ok(info[AT / 8])
}

/// ID of the program behind a descriptor.
pub(super) fn program_id(program: BorrowedFd<'_>) -> Result<u32, KernelError> {
    /// Index of the ID in the words of `struct bpf_prog_info`: type, ID.
    const ID: usize = 1;
    Ok(info::<2>(program.as_raw_fd())?[ID])
}

/// Returns whether a program with this ID is loaded. The kernel assigns IDs in turn, and reuses one
/// after 2^31.
pub(super) fn is_loaded(program: u32) -> Result<bool, KernelError> {
    /// Beginning of `union bpf_attr` for `BPF_PROG_GET_NEXT_ID`. `next` is the answer.
    #[repr(C)]
    struct NextId {
        start: u32,
        next: u32,
        open_flags: u32,
    }
    let mut attributes = NextId { start: program.wrapping_sub(1), next: 0, open_flags: 0 };
    match bpf(PROG_GET_NEXT_ID, &mut attributes, "BPF_PROG_GET_NEXT_ID") {
        Ok(_) => Ok(attributes.next == program),
        Err(KernelError::Call { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// State of a link to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkInfo {
    /// ID of the program.
    pub(super) program: u32,
    /// Index of the interface; 0 if the link is detached.
    pub(super) ifindex: u32,
}

/// Reads the state of a TCX or XDP link.
pub(super) fn link_info(link: &OwnedFd) -> Result<LinkInfo, KernelError> {
    /// Indexes in the words of `struct bpf_link_info`: type, ID, program, padding, fields of the
    /// type.
    const PROGRAM: usize = 2;
    const IFINDEX: usize = 4;
    let info = info::<{ IFINDEX + 2 }>(link.as_raw_fd())?;
    Ok(LinkInfo { program: info[PROGRAM], ifindex: info[IFINDEX] })
}

/// First words of the kernel's information on an object.
fn info<const WORDS: usize>(fd: RawFd) -> Result<[u32; WORDS], KernelError> {
    let mut info = [0_u32; WORDS];
    let mut attributes =
        Info { fd: fd as u32, len: size_of_val(&info) as u32, to: (&raw mut info) as u64 };
    bpf(OBJ_GET_INFO_BY_FD, &mut attributes, "BPF_OBJ_GET_INFO_BY_FD")?;
    Ok(info)
}

/// Treatment of elements after they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterRead {
    Keep,
    /// Delete them. The counts that a program adds to an element between reading and deleting would
    /// be lost.
    Remove,
}

/// Buffer for the elements of a hash map that are read in one call.
#[derive(Debug)]
pub(super) struct Elements<K, V> {
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Copy + Default, V: Copy + Default> Elements<K, V> {
    /// Elements per call. They take a few hundred KiB.
    const CHUNK: usize = 4096;

    pub(super) const fn new() -> Self {
        Self { keys: Vec::new(), values: Vec::new() }
    }

    /// Passes all elements of a map to `take`, and returns their number (Linux 5.6). `K` and `V`
    /// must be the types of its keys and values.
    pub(super) fn read(
        &mut self,
        map: BorrowedFd<'_>,
        after: AfterRead,
        mut take: impl FnMut(&K, &V),
    ) -> Result<u64, KernelError> {
        let (command, call) = match after {
            AfterRead::Keep => (MAP_LOOKUP_BATCH, "BPF_MAP_LOOKUP_BATCH"),
            AfterRead::Remove => (MAP_LOOKUP_AND_DELETE_BATCH, "BPF_MAP_LOOKUP_AND_DELETE_BATCH"),
        };
        self.grow(Self::CHUNK.max(self.keys.len()));
        let (mut position, mut next, mut started, mut total) = (0_u32, 0_u32, false, 0);
        loop {
            let mut attributes = Batch {
                start: if started { (&raw const position) as u64 } else { 0 },
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
                // One bucket has more elements than the buffer has room for.
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
            (position, started) = (next, true);
        }
    }

    fn grow(&mut self, len: usize) {
        self.keys.resize(len, K::default());
        self.values.resize(len, V::default());
    }
}
