//! Where the maps are pinned.
//!
//! aya shares maps between the loads of one object through pins, so a BPF file system is needed from the start.

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

/// A folder of our own on a BPF file system. Removed with its pins when dropped.
#[derive(Debug)]
pub struct PinDirectory {
    path: PathBuf,
    /// The BPF file system that was mounted for us, because there was none.
    mounted: Option<PathBuf>,
    /// Held as long as the folder is ours.
    lock: Option<Flock<fs::File>>,
}

impl PinDirectory {
    /// Makes `wanted`; where that lies on no BPF file system, mounts one under `state_dir`.
    ///
    /// What an earlier daemon left in it is removed; that one is still alive is an error.
    pub fn create(wanted: &Path, state_dir: &Path) -> Result<Self, KernelError> {
        let (path, mounted) = if is_bpffs(wanted) {
            (wanted.to_path_buf(), None)
        } else {
            let root = state_dir.join("bpf");
            fs::create_dir_all(&root).map_err(|error| failed("creating", &root, error))?;
            if !is_bpffs(&root) {
                mount(Some("bpf"), &root, Some("bpf"), MsFlags::empty(), Some("mode=0700"))
                    .map_err(|errno| failed("mounting a BPF file system on", &root, errno.into()))?;
            }
            (root.join("observer"), Some(root))
        };
        fs::create_dir_all(&path).map_err(|error| failed("creating", &path, error))?;
        let lock = lock(&path)?;
        let directory = Self { path, mounted, lock: Some(lock) };
        directory.clear();
        Ok(directory)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn clear(&self) {
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten() {
            if let Err(error) = fs::remove_file(entry.path()) {
                tracing::warn!(path = %entry.path().display(), %error, "a pin could not be removed");
            }
        }
    }
}

impl Drop for PinDirectory {
    fn drop(&mut self) {
        self.clear();
        let _ = fs::remove_dir(&self.path);
        // An open file would keep the file system mounted.
        self.lock = None;
        if let Some(root) = &self.mounted
            && umount(root).is_ok()
        {
            let _ = fs::remove_dir(root);
        }
    }
}

/// A BPF file system that is mounted nowhere: gone with its descriptor, however the process ends.
#[derive(Debug)]
pub struct PrivatePins {
    path: PathBuf,
    _mount: OwnedFd,
}

impl PrivatePins {
    /// Makes one (Linux 5.2).
    pub fn new() -> Result<Self, KernelError> {
        const FSCONFIG_CMD_CREATE: libc::c_long = 6;
        const CLOEXEC: libc::c_long = 1;
        let (none, nowhere) = (0_usize, ptr::null::<u8>());
        // SAFETY: the name is a string that outlives the call.
        let context = unsafe { libc::syscall(libc::SYS_fsopen, c"bpf".as_ptr(), CLOEXEC) };
        let context = descriptor(context, "fsopen of a BPF file system")?;
        let fd = context.as_raw_fd();
        // SAFETY: the command takes neither key nor value.
        let created =
            unsafe { libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, nowhere, nowhere, none) };
        if created < 0 {
            return Err(KernelError::last("fsconfig of a BPF file system"));
        }
        // SAFETY: no pointers are passed.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, fd, CLOEXEC, none) };
        let mount = descriptor(mount, "fsmount of a BPF file system")?;
        Ok(Self { path: format!("/proc/self/fd/{}", mount.as_raw_fd()).into(), _mount: mount })
    }

    /// Its root, for this process.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn descriptor(result: libc::c_long, call: &str) -> Result<OwnedFd, KernelError> {
    if result < 0 {
        return Err(KernelError::last(call));
    }
    // SAFETY: a descriptor that the kernel has just given us.
    Ok(unsafe { OwnedFd::from_raw_fd(result as RawFd) })
}

/// Whether `path`, or the nearest folder above it that exists, lies on a BPF file system.
fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|ancestor| statfs(ancestor).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

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
