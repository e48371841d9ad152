//! Network namespaces: naming, opening and entering them.
//!
//! An open descriptor of a namespace, a socket in it or a thread inside keeps the namespace and its
//! interfaces alive after its task is gone, including the ENI. So nothing here outlives its call,
//! except a file from [`Netns::open`].

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::{
        ffi::OsStringExt,
        fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{FsType, fstatfs},
};

/// `NSFS_MAGIC`: file system of namespace files.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// A network namespace: its inode, and a path where it was last found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Netns {
    /// Inode on nsfs. Unique among existing namespaces; reused after a namespace is gone.
    pub inode: u64,
    /// File of the namespace: `/run/netns/NAME` or `/proc/PID/ns/net`.
    pub path: PathBuf,
}

impl Netns {
    /// Namespace of this process.
    pub fn own() -> io::Result<Self> {
        Self::at(Path::new("/proc/self/ns/net"))?.ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Namespace of the file at `path`; `None` if it is not a namespace file (yet).
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        // `O_NONBLOCK`, so that opening a FIFO at this path does not wait for its other end.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        if fstatfs(&file)?.filesystem_type() != NSFS_MAGIC {
            return Ok(None);
        }
        Ok(Some(Self { inode: file.metadata()?.ino(), path: path.to_path_buf() }))
    }

    /// Lists the namespaces that this process can find: its own first, then those mounted on files
    /// and those of processes.
    pub fn all() -> Vec<Self> {
        let own = PathBuf::from("/proc/self/ns/net");
        // Paths may be any bytes.
        let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounted = table.split(|byte| *byte == b'\n').filter_map(mounted_on);
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

    /// Opens the namespace. Fails with [`io::ErrorKind::NotFound`] if the path now leads to another
    /// one.
    pub fn open(&self) -> io::Result<File> {
        let file = File::open(&self.path)?;
        if file.metadata()?.ino() != self.inode {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(file)
    }

    /// Runs `work` inside the namespace, on a new thread that ends afterwards.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let file = self.open()?;
        on_a_thread(move || {
            enter(file)?;
            Ok(work())
        })?
    }

    /// Runs `work` for each item inside its namespace, on one new thread for all, because entering
    /// a namespace costs much less than a thread. Skips namespaces that cannot be entered.
    pub fn inside_each<'a, T: Send>(
        items: impl IntoIterator<Item = T> + Send,
        netns: impl Fn(&T) -> &'a Self + Send,
        mut work: impl FnMut(T) + Send,
    ) -> io::Result<()> {
        on_a_thread(move || {
            for item in items {
                if netns(&item).open().and_then(enter).is_ok() {
                    work(item);
                }
            }
        })
    }
}

/// Moves the calling thread into a namespace. The thread must end there.
fn enter(file: File) -> io::Result<()> {
    Ok(setns(file, CloneFlags::CLONE_NEWNET)?)
}

/// Runs `work` on a new thread and waits for it.
fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| io::Error::other("the thread inside a namespace panicked"))
    })
}

/// Mount point of a namespace, from a line of `mountinfo`:
/// `36 28 0:4 net:[4026532674] /run/netns/x rw …`
fn mounted_on(line: &[u8]) -> Option<PathBuf> {
    let mut fields = line.split(|byte| *byte == b' ').skip(3);
    fields.next().filter(|root| root.starts_with(b"net:["))?;
    Some(PathBuf::from(OsString::from_vec(unescaped(fields.next()?))))
}

/// Decodes a path in `mountinfo`. The kernel writes space, tab, line feed and backslash as `\` and
/// three octal digits.
pub(crate) fn unescaped(path: &[u8]) -> Vec<u8> {
    let digits = |bytes: &[u8]| {
        let valid = bytes.iter().all(|byte| (b'0'..=b'7').contains(byte));
        valid.then(|| bytes.iter().fold(0_u8, |value, byte| value.wrapping_mul(8) | (byte - b'0')))
    };
    let (mut bytes, mut rest) = (Vec::new(), path);
    while let [first, behind @ ..] = rest {
        let octal = behind.get(..3).filter(|_| *first == b'\\').and_then(digits);
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &behind[3..] } else { behind };
    }
    bytes
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
    fn a_mount_on_a_path_of_any_bytes_is_found() {
        let on = |line: &[u8]| mounted_on(line).map(|path| path.into_os_string().into_vec());
        assert_eq!(
            on(b"36 28 0:4 net:[4026532674] /run/netns/caf\xe9 rw"),
            Some(b"/run/netns/caf\xe9".to_vec())
        );
        assert_eq!(
            on(br"36 28 0:4 net:[4026532674] /run/a\040b\134c\0 rw"),
            Some(br"/run/a b\c\0".to_vec())
        );
        assert_eq!(on(b"36 28 0:4 / /sys/caf\xe9 rw"), None);
        assert_eq!(on(b""), None);
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
