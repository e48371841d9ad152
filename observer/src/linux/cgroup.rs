//! Paths of control groups (version 2), by their IDs.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
};

use crate::linux::netns::unescaped;

/// `FILEID_KERNFS`: the handle is the ID of a kernfs node (Linux 5.5).
const FILEID_KERNFS: i32 = 0xfe;

/// `struct file_handle` with the ID of a control group.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// Mount of the control groups of version 2.
#[derive(Debug)]
pub struct Cgroups {
    root: File,
}

impl Cgroups {
    /// Finds the mount. Fails with [`io::ErrorKind::NotFound`] on hosts with version 1 only.
    pub fn find() -> io::Result<Self> {
        // Paths may be any bytes.
        let table = fs::read("/proc/self/mountinfo")?;
        let path = table.split(|byte| *byte == b'\n').find_map(mounted_on);
        Ok(Self { root: File::open(path.ok_or(io::ErrorKind::NotFound)?)? })
    }

    /// Directory of the group with this ID, below the mount point. `None` if the group is gone or
    /// not visible. Requires `CAP_DAC_READ_SEARCH`.
    pub fn path(&self, id: u64) -> Option<PathBuf> {
        let mut handle = Handle { bytes: size_of::<u64>() as u32, kind: FILEID_KERNFS, id };
        // SAFETY: the handle has the size that it states, and outlives the call.
        let fd = unsafe {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            libc::open_by_handle_at(self.root.as_raw_fd(), (&raw mut handle).cast(), flags)
        };
        if fd < 0 {
            return None;
        }
        // SAFETY: the descriptor was just opened and has no other owner.
        let folder = unsafe { OwnedFd::from_raw_fd(fd) };
        fs::read_link(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string())).ok()
    }
}

/// Mount point of the control groups of version 2, from their line of `mountinfo`:
/// `29 23 0:26 / /sys/fs/cgroup rw,… shared:9 - cgroup2 cgroup2 rw`
fn mounted_on(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = fields.nth(4)?;
    // The number of optional fields varies; a dash ends them.
    fields.find(|field| *field == b"-")?;
    let is_version_2 = fields.next() == Some(b"cgroup2");
    is_version_2.then(|| PathBuf::from(OsString::from_vec(unescaped(path))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn the_mount_is_found_beside_others_of_any_bytes() {
        let line = b"29 23 0:26 / /sys/fs/caf\xe9\\040x rw,nosuid shared:9 - cgroup2 cgroup2 rw";
        let path = mounted_on(line).map(|path| path.into_os_string().into_vec());
        assert_eq!(path.as_deref(), Some(&b"/sys/fs/caf\xe9 x"[..]));
        assert_eq!(mounted_on(b"30 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(mounted_on(b"31 23 0:28 / /mnt/cgroup2 rw - ext4 /dev/cgroup2 rw"), None);
    }

    #[test]
    fn a_group_is_found_by_the_inode_of_its_folder() {
        let Ok(groups) = Cgroups::find() else { return };
        let inode = groups.root.metadata().unwrap().ino();
        let path = groups.path(inode).unwrap();
        assert_eq!(fs::metadata(path).unwrap().ino(), inode);
        assert_eq!(groups.path(u64::MAX), None);
    }
}
