//! A file that is being written, under a name that no reader takes for a finished one.

use std::{
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{Counts, Output, direct::Direct};

/// Ends the name of a file that is being written; a dot begins it.
pub(super) const PART: &str = ".part";
/// Ends the name of a file that was never finished and cannot be; a dot begins it.
pub(super) const INCOMPLETE: &str = ".incomplete";

/// The file: a body that is only ever added to, and a tail that makes it whole.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    direct: Direct,
    temporary: PathBuf,
    finished: PathBuf,
    /// Where the tail begins.
    body: u64,
    tail: Vec<u8>,
    /// A write failed, and the tail could not be put back.
    torn: bool,
    /// What is in it.
    pub(super) counts: Counts,
}

/// Why a file was not finished.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// It is not where it was made.
    Gone,
    /// The system cannot say that it is on the disk.
    Unsynced(io::Error),
    /// Another attempt may succeed.
    Not(io::Error),
}

impl Part {
    /// Makes an empty file, whose finished name will be that of `stem`, of eight digits and of `ending`. It is locked
    /// as long as it is open, so that no other process takes it for one that was left behind.
    pub(super) fn create(folder: &Path, stem: &str, ending: &str) -> io::Result<Self> {
        const ATTEMPTS: u32 = 100;
        fs::create_dir_all(folder)?;
        let random = RandomState::new();
        for attempt in 0..ATTEMPTS {
            let name = format!("{stem}_{:08x}.{ending}", random.hash_one(attempt) as u32);
            let finished = folder.join(&name);
            let temporary = folder.join(format!(".{name}{PART}"));
            if finished.exists() {
                continue;
            }
            match File::create_new(&temporary) {
                Ok(file) => {
                    // Without locks on this file system there is at worst a notice too many.
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

    /// Where the next unit begins.
    pub(super) const fn body(&self) -> u64 {
        self.body
    }

    /// Bytes of the file.
    pub(super) const fn size(&self) -> u64 {
        self.body + self.tail.len() as u64
    }

    /// Writes over the tail: `body` bytes of body, the rest a new tail. After an error the file is as it was before.
    pub(super) fn append(&mut self, bytes: &[u8], body: usize) -> io::Result<()> {
        self.mend()?;
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
                // What fails here is tried again before the next write.
                let _ = self.mend();
                Err(error)
            }
        }
    }

    /// Puts back the tail that a failed write has written over. It takes no room that the file did not have.
    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.write_all_at(&self.tail, self.body)?;
            self.file.set_len(self.size())?;
            self.torn = false;
        }
        Ok(())
    }

    /// Whether it was removed or moved away: no rename would finish it.
    pub(super) fn is_gone(&self) -> bool {
        let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        match (self.file.metadata(), fs::metadata(&self.temporary)) {
            (Ok(own), Ok(there)) => place(own) != place(there),
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            (Err(_), _) => false,
        }
    }

    /// Everything on disk, then the final name, which is returned.
    pub(super) fn finish(&mut self) -> Result<PathBuf, Unfinished> {
        self.mend().map_err(Unfinished::Not)?;
        // After a failed sync the kernel forgets what it could not write: another one would succeed and mean nothing.
        self.file.sync_all().map_err(Unfinished::Unsynced)?;
        fs::rename(&self.temporary, &self.finished)
            .map_err(|error| if self.is_gone() { Unfinished::Gone } else { Unfinished::Not(error) })?;
        // It is there; that it stays is all that this adds.
        let _ = self.finished.parent().map(|folder| File::open(folder)?.sync_all());
        Ok(self.finished.clone())
    }

    /// Takes it out of the way of whoever looks for parts.
    pub(super) fn set_aside(self) {
        let _ = fs::rename(&self.temporary, set_aside(&self.temporary));
    }

    /// Removes it.
    pub(super) fn discard(self) {
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Where a part goes that will never be a file.
pub(super) fn set_aside(part: &Path) -> PathBuf {
    part.with_extension(&INCOMPLETE[1..])
}

/// The final name of a part, if it is one of ours.
pub(super) fn finished(part: &Path) -> Option<PathBuf> {
    let name = part.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(PART)?;
    is_ours(name).then(|| part.with_file_name(name))
}

/// Whether a file that is called so is a finished one of ours.
pub(super) fn is_ours(name: &str) -> bool {
    let ending = name.split_once('.').map(|(_, ending)| ending);
    !name.starts_with('.')
        && name.contains("_vpcflowlogs_")
        && Output::ALL.iter().any(|output| output.ending().is_some() && output.ending() == ending)
}
