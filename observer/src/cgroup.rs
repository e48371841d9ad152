//! Control groups of version 2, by their ids.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
};

/// `FILEID_KERNFS`: a handle that is the id of a node (Linux 5.5).
const FILEID_KERNFS: i32 = 0xfe;

/// `struct file_handle` with the id of a control group.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    id: u64,
}

/// Where control groups of version 2 are mounted.
#[derive(Debug)]
pub struct Cgroups {
    root: File,
}

impl Cgroups {
    /// Looks for the mount. [`io::ErrorKind::NotFound`] on hosts that have version 1 only.
    pub fn find() -> io::Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        // 29 23 0:26 / /sys/fs/cgroup rw,… shared:9 - cgroup2 cgroup2 rw
        let mounted = table.lines().find_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            kind.starts_with("cgroup2 ").then(|| place.split(' ').nth(4))?
        });
        let path = mounted.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { root: File::open(path)? })
    }

    /// The folder of the group with this id, as the mount shows it. `None` where it is gone, or cannot be seen (that
    /// takes `CAP_DAC_READ_SEARCH`).
    pub fn path(&self, id: u64) -> Option<PathBuf> {
        let mut handle = Handle { bytes: size_of::<u64>() as u32, kind: FILEID_KERNFS, id };
        // SAFETY: the handle is as long as it says, and lives through the call.
        let fd = unsafe {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
            libc::open_by_handle_at(self.root.as_raw_fd(), (&raw mut handle).cast(), flags)
        };
        if fd < 0 {
            return None;
        }
        // SAFETY: it was just opened, and nobody else has it.
        let folder = unsafe { OwnedFd::from_raw_fd(fd) };
        fs::read_link(Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string())).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn a_group_is_found_by_the_inode_of_its_folder() {
        let Ok(groups) = Cgroups::find() else { return };
        let inode = groups.root.metadata().unwrap().ino();
        let path = groups.path(inode).unwrap();
        assert_eq!(fs::metadata(path).unwrap().ino(), inode);
        assert_eq!(groups.path(u64::MAX), None);
    }
}
