//! A file that is being written, under a temporary name that readers ignore.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{counts::Counts, direct::Direct, output::Output};
use crate::linux::access::Access;

/// Extension of a file that is being written. Its name begins with a dot.
pub(super) const PART: &str = ".part";
/// Extension of an unfinished file that cannot be finished. Its name begins with a dot.
pub(super) const INCOMPLETE: &str = ".incomplete";

/// An unfinished file: a body that only grows, and a tail that makes the file complete.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    direct: Direct,
    temporary: PathBuf,
    finished: PathBuf,
    /// Length of the body, which is the offset of the tail.
    body: u64,
    tail: Vec<u8>,
    /// True after a failed write, until the tail is restored.
    torn: bool,
    /// Records in the file.
    pub(super) counts: Counts,
}

/// Reason for a file that could not be finished.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// The file was removed or renamed by another process.
    Gone,
    /// `fsync` failed: the content may not be on the disk.
    Unsynced(io::Error),
    /// Another attempt may succeed.
    Retry(io::Error),
}

impl Part {
    /// Creates an empty file with the final name `STEM_XXXXXXXX.ENDING`, eight random hexadecimal
    /// digits. The file is locked while it is open, so that no other process recovers it as
    /// unfinished.
    pub(super) fn create(
        access: Access,
        folder: &Path,
        stem: &str,
        ending: &str,
    ) -> io::Result<Self> {
        const ATTEMPTS: u32 = 100;
        access.create_folder(folder)?;
        let random = RandomState::new();
        for attempt in 0..ATTEMPTS {
            let name = format!("{stem}_{:08x}.{ending}", random.hash_one(attempt) as u32);
            let finished = folder.join(&name);
            let temporary = folder.join(format!(".{name}{PART}"));
            if finished.exists() {
                continue;
            }
            match access.create_file(&temporary) {
                Ok(file) => {
                    // Without locks on this file system, the worst case is one log line too many.
                    let _ = file.try_lock();
                    let direct = Direct::open(&temporary);
                    let tail = Vec::new();
                    let counts = Counts::default();
                    return Ok(Self {
                        file,
                        direct,
                        temporary,
                        finished,
                        body: 0,
                        tail,
                        torn: false,
                        counts,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Offset of the next unit.
    pub(super) const fn body(&self) -> u64 {
        self.body
    }

    /// Name, length of the body, and the tail.
    pub(super) fn length(&self) -> (&Path, u64, &[u8]) {
        (&self.temporary, self.body, &self.tail)
    }

    /// Size of the file in bytes.
    pub(super) const fn size(&self) -> u64 {
        self.body + self.tail.len() as u64
    }

    /// Overwrites the tail with `body` bytes of body and a new tail. After an error, the file is
    /// unchanged.
    pub(super) fn append(&mut self, bytes: &[u8], body: usize) -> io::Result<()> {
        self.restore_tail()?;
        let before = self.size();
        self.torn = true;
        let written = self.direct.write_all_at(&self.file, bytes, self.body).and_then(|()| {
            let after = self.body + bytes.len() as u64;
            if after < before { self.file.set_len(after) } else { Ok(()) }
        });
        match written {
            Ok(()) => {
                self.torn = false;
                self.body += body as u64;
                self.tail.clear();
                self.tail.extend_from_slice(&bytes[body..]);
                Ok(())
            }
            Err(error) => {
                // If this fails, the next write tries it again.
                let _ = self.restore_tail();
                Err(error)
            }
        }
    }

    /// Restores the tail after a failed write. Needs no additional disk space.
    fn restore_tail(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.write_all_at(&self.tail, self.body)?;
            self.file.set_len(self.size())?;
            self.torn = false;
        }
        Ok(())
    }

    /// True if the file was removed or renamed by another process, so that it cannot be finished.
    pub(super) fn is_gone(&self) -> bool {
        let inode = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(&self.temporary)) {
            (Ok(own), Ok(there)) => inode(own) != inode(there),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), _) => false,
        }
    }

    /// Syncs the file, renames it to its final name, and returns that name.
    pub(super) fn finish(&mut self) -> Result<PathBuf, Unfinished> {
        self.restore_tail().map_err(Unfinished::Retry)?;
        // After a failed sync the kernel discards the unwritten pages, so a second sync would
        // succeed without effect.
        self.file.sync_all().map_err(Unfinished::Unsynced)?;
        fs::rename(&self.temporary, &self.finished).map_err(|error| {
            if self.is_gone() { Unfinished::Gone } else { Unfinished::Retry(error) }
        })?;
        // The rename has succeeded; syncing the folder only makes it durable.
        let _ = self.finished.parent().map(|folder| File::open(folder)?.sync_all());
        Ok(self.finished.clone())
    }

    /// Renames the file, so that no later run tries to finish it.
    pub(super) fn set_aside(self) {
        let _ = fs::rename(&self.temporary, set_aside(&self.temporary));
    }

    /// Removes the file.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Name of an unfinished file that cannot be finished.
pub(super) fn set_aside(part: &Path) -> PathBuf {
    part.with_extension(&INCOMPLETE[1..])
}

/// The final name of an unfinished file; `None` for files of other programs.
pub(super) fn finished(part: &Path) -> Option<PathBuf> {
    let name = part.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(PART)?;
    is_ours(name).then(|| part.with_file_name(name))
}

/// True for the names of finished record files.
pub(super) fn is_ours(name: &str) -> bool {
    let ending = name.split_once('.').map(|(_, ending)| ending);
    !name.starts_with('.')
        && name.contains("_vpcflowlogs_")
        && Output::ALL.iter().any(|output| output.ending().is_some() && output.ending() == ending)
}
