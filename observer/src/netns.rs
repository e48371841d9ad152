//! Network namespaces: how one is named, opened and entered.
//!
//! An open descriptor of a namespace, a socket in it or a thread inside keeps it and its interfaces alive after its
//! task is gone, and with them the ENI. So nothing here outlives its call.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs},
};

/// `NSFS_MAGIC`: the file system of namespace files.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// A network namespace: its inode, and a path under which it was last seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns {
    /// Inode on nsfs: unique among live namespaces, used again after one is gone.
    pub inode: u64,
    /// A file of it: `/run/netns/NAME`, `/proc/PID/ns/net`.
    pub path: PathBuf,
}

impl Netns {
    /// The namespace of this thread's process.
    pub fn own() -> io::Result<Self> {
        Self::at(Path::new("/proc/self/ns/net"))?.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// The namespace that the file at `path` leads to; `None` where it is no namespace file (yet).
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        // Not to wait for the other end of a FIFO that somebody put there.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Ok(None);
        }
        Ok(Some(Self { inode: file.metadata()?.ino(), path: path.to_path_buf() }))
    }

    /// Every namespace that this process can name: its own, those that are mounted on files, those of processes.
    pub fn all() -> Vec<Self> {
        let own = PathBuf::from("/proc/self/ns/net");
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // 36 28 0:4 net:[4026532674] /run/netns/x rw …
        let mounted = table.lines().filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            fields.next().filter(|root| root.starts_with("net:["))?;
            fields.next().map(PathBuf::from)
        });
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let processes = processes
            .filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit))
            .map(|entry| entry.path().join("ns/net"));
        let mut seen = BTreeSet::new();
        [own]
            .into_iter()
            .chain(mounted)
            .chain(processes)
            .filter_map(|path| Some(Self { inode: fs::metadata(&path).ok()?.ino(), path }))
            .filter(|netns| seen.insert(netns.inode))
            .collect()
    }

    /// Opens it, and makes sure that the path still leads to it.
    pub fn open(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if file.metadata()?.ino() != self.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(file)
    }

    /// Runs `work` on a thread of its own inside the namespace, which that thread leaves by ending.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = self.open()?;
        thread::scope(|scope| {
            thread::Builder::new()
                .name("netns".into())
                .spawn_scoped(scope, move || {
                    setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
                    drop(file);
                    Ok(work())
                })?
                .join()
                .map_err(|_| io::Error::other("the thread inside the namespace panicked"))?
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_namespace_has_an_inode_and_opens() {
        let own = Netns::own().unwrap();
        assert_ne!(own.inode, 0);
        own.open().unwrap();
    }

    #[test]
    fn own_namespace_is_the_first_of_all() {
        let all = Netns::all();
        assert_eq!(all[0], Netns::own().unwrap());
        assert_eq!(all.iter().filter(|netns| netns.inode == all[0].inode).count(), 1);
    }

    #[test]
    fn a_plain_file_is_no_namespace() {
        assert_eq!(Netns::at(Path::new("/proc/self/status")).unwrap(), None);
        assert!(Netns::at(Path::new("/nonexistent")).is_err());
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_not_opened() {
        let own = Netns::own().unwrap();
        assert!(Netns { inode: own.inode + 1, ..own }.open().is_err());
    }
}
