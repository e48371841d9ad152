//! Directories for pinned maps on BPF file systems.
//!
//! aya shares maps between the loads of one object through pins, so a BPF file system is always
//! needed.

use std::{
    fs, io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::{Path, PathBuf},
    ptr,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount, umount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::{KernelError, link};

/// Directory of this daemon on a BPF file system.
///
/// It holds one directory of maps for each run whose maps are in use, and one for the links of
/// programs to interfaces. Maps and links outlive the daemon, so that a killed daemon loses no
/// packet: its programs go on counting, and the next run reads their maps. Dropping the value
/// removes the maps of this run, and the directory if nothing else is in it.
#[derive(Debug)]
pub struct PinDirectory {
    root: PathBuf,
    /// Directory of the maps of this run.
    maps: PathBuf,
    /// Mount point of a BPF file system of the daemon's own.
    mounted: Option<PathBuf>,
    /// Lock that keeps other daemons out of the directory.
    lock: Option<Flock<fs::File>>,
    kept: bool,
}

/// Prefix of directories of maps. The number is the version of the maps' layout: raise it when a
/// type or the meaning of a map in `observer_ebpf::abi` changes.
pub(super) const MAPS: &str = "maps-1-";
/// Prefix of a directory that stands for the mark: a BPF file system holds no files.
const MARK: &str = "mark-";
/// Directory of links.
const LINKS: &str = "links";

impl PinDirectory {
    /// Creates the directory `wanted`. If that is not on a BPF file system, mounts one below
    /// `state_dir` and uses it instead.
    ///
    /// Fails with [`KernelError::PinsTaken`] if another daemon uses it.
    pub fn create(wanted: &Path, state_dir: &Path) -> Result<Self, KernelError> {
        let (path, mounted) = if is_bpffs(wanted) {
            (wanted.to_path_buf(), None)
        } else {
            let root = state_dir.join("bpf");
            fs::create_dir_all(&root).map_err(|error| failed("creating", &root, error))?;
            if !is_bpffs(&root) {
                mount(Some("bpf"), &root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                    .map_err(|errno| {
                        failed("mounting a BPF file system on", &root, errno.into())
                    })?;
            }
            (root.join("observer"), Some(root))
        };
        fs::create_dir_all(&path).map_err(|error| failed("creating", &path, error))?;
        let lock = lock(&path)?;
        let run = random()?;
        let maps = path.join(format!("{MAPS}{run:016x}"));
        let directory = Self { root: path, maps, mounted, lock: Some(lock), kept: false };
        for path in [&directory.maps, &directory.links()] {
            fs::create_dir_all(path).map_err(|error| failed("creating", path, error))?;
        }
        Ok(directory)
    }

    /// Directory of the maps of this run.
    pub fn path(&self) -> &Path {
        &self.maps
    }

    /// Directory of the links to interfaces.
    pub fn links(&self) -> PathBuf {
        self.root.join(LINKS)
    }

    /// Mark by which the TC program behind XDP recognises packets that XDP has counted: the same as
    /// in earlier runs, because a packet may meet the programs of both. Random, so that marks of
    /// another daemon and stray data do not match.
    pub fn mark(&self) -> Result<u32, KernelError> {
        let mark = |path: PathBuf| {
            let name = path.file_name()?.to_str()?.strip_prefix(MARK)?;
            u32::from_str_radix(name, 16).ok()
        };
        if let Some(mark) = entries(&self.root).into_iter().find_map(mark) {
            return Ok(mark);
        }
        // Never 0, which stands for no mark.
        let mark = random()? as u32 | 1 << 31;
        let path = self.root.join(format!("{MARK}{mark:08x}"));
        fs::create_dir(&path).map_err(|error| failed("creating", &path, error))?;
        Ok(mark)
    }

    /// Directories of the maps of earlier runs.
    pub fn earlier(&self) -> Vec<PathBuf> {
        let mut earlier = entries(&self.root);
        earlier.retain(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            *path != self.maps && name != LINKS && !name.starts_with(MARK)
        });
        earlier
    }

    fn remove_mark(&self) {
        for path in entries(&self.root) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.starts_with(MARK) {
                link::unpin(&path);
            }
        }
    }

    /// Leaves everything in place for the next run.
    pub fn keep(mut self) {
        self.kept = true;
    }

    /// Removes the maps and links of all runs. Programs attached by links are detached.
    pub fn remove_all(self) {
        for path in self.earlier() {
            remove_directory(&path);
        }
        remove_directory(&self.links());
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        remove_directory(&self.maps);
        // The links of an earlier run need the mark.
        let _ = fs::remove_dir(self.links());
        if !self.links().exists() {
            self.remove_mark();
        }
        if fs::remove_dir(&self.root).is_err() {
            return;
        }
        // An open file would prevent unmounting.
        self.lock = None;
        if let Some(root) = &self.mounted
            && umount(root).is_ok()
        {
            let _ = fs::remove_dir(root);
        }
    }
}

fn random() -> Result<u64, KernelError> {
    getrandom::u64().map_err(|error| KernelError::call("getrandom", io::Error::other(error)))
}

/// Paths of everything in a directory.
pub(super) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes a directory of pins.
pub(super) fn remove_directory(directory: &Path) {
    for path in entries(directory) {
        link::unpin(&path);
    }
    let _ = fs::remove_dir(directory);
}

/// A BPF file system that is not mounted anywhere. It disappears with its descriptor, however the
/// process ends.
#[derive(Debug)]
pub struct PrivatePins {
    path: PathBuf,
    _mount: OwnedFd,
}

impl PrivatePins {
    /// Creates a file system (Linux 5.2).
    pub fn new() -> Result<Self, KernelError> {
        const FSCONFIG_CMD_CREATE: libc::c_long = 6;
        const CLOEXEC: libc::c_long = 1;
        let (none, nowhere) = (0_usize, ptr::null::<u8>());
        // SAFETY: the name is a string that outlives the call.
        let context = unsafe { libc::syscall(libc::SYS_fsopen, c"bpf".as_ptr(), CLOEXEC) };
        let context = descriptor(context, "fsopen of a BPF file system")?;
        let fd = context.as_raw_fd();
        // SAFETY: the command takes neither key nor value.
        let created = unsafe {
            libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, nowhere, nowhere, none)
        };
        if created < 0 {
            return Err(KernelError::last("fsconfig of a BPF file system"));
        }
        // SAFETY: no pointers are passed.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, none) };
        let mount = descriptor(mount, "fsmount of a BPF file system")?;
        Ok(Self { path: format!("/proc/self/fd/{}", mount.as_raw_fd()).into(), _mount: mount })
    }

    /// Path of its root, valid in this process.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Descriptor that a system call returned, or its error.
fn descriptor(result: libc::c_long, call: &str) -> Result<OwnedFd, KernelError> {
    if result < 0 {
        return Err(KernelError::last(call));
    }
    // SAFETY: the kernel has just returned this descriptor to us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// Returns whether `path`, or its nearest existing ancestor, is on a BPF file system.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Locks the directory.
fn lock(path: &Path) -> Result<Flock<fs::File>, KernelError> {
    let directory = fs::File::open(path).map_err(|error| failed("opening", path, error))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => KernelError::PinsTaken(path.to_path_buf()),
        errno => failed("locking", path, errno.into()),
    })
}

fn failed(action: &str, path: &Path, error: io::Error) -> KernelError {
    KernelError::call(format!("{action} {}", path.display()), error)
}
