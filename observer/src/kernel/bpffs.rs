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

use super::KernelError;

/// A directory of this daemon on a BPF file system. Dropping it removes the directory and its pins.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    /// Mount point of the BPF file system, if the daemon mounted it.
    mounted: Option<PathBuf>,
    /// Lock that keeps other daemons out of the directory.
    lock: Option<Flock<fs::File>>,
}

impl PinDirectory {
    /// Creates the directory `wanted`. If that is not on a BPF file system, mounts one below
    /// `state_dir` and uses it instead.
    ///
    /// Removes the pins of an earlier daemon. Fails with [`KernelError::PinsTaken`] if that daemon
    /// still runs.
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
        let directory = Self { path, mounted, lock: Some(lock) };
        directory.clear();
        Ok(directory)
    }

    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all pins.
    fn clear(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "a pinned map could not be removed");
            }
        }
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        self.clear();
        let _ = fs::remove_dir(&self.path);
        // An open file would prevent unmounting.
        self.lock = None;
        if let Some(root) = &self.mounted
            && umount(root).is_ok()
        {
            let _ = fs::remove_dir(root);
        }
    }
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
