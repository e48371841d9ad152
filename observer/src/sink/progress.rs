//! Progress of an output: the batches that are wholly in its files.
//!
//! A daemon that is killed while it writes a batch leaves a part of it in the files. The next run
//! cuts them to the lengths that the output has noted here after the batch before, and writes the
//! whole batch again from the journal. So no record is missing or twice. Files are renamed only after
//! their lengths are noted.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{output::Output, part::Part};
use crate::{linux::access::Access, record::BatchId};

/// Number of batches that are remembered: more than an output's queue and held records need.
const REMEMBERED: usize = 64;

/// Batches that are wholly in the files of an output, and the lengths of its unfinished files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Progress {
    batches: Vec<BatchId>,
    files: Vec<FileLength>,
}

/// An unfinished file after the last whole batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FileLength {
    /// Path, as base64 because it may be any bytes.
    path: String,
    body: u64,
    /// The bytes that make the file complete, as base64.
    tail: String,
}

fn file(directory: &Path, output: Output) -> PathBuf {
    directory.join(format!("written-{}.json", output.as_str()))
}

impl Progress {
    /// Reads the progress of an output; empty if it has noted none.
    pub fn read(directory: &Path, output: Output) -> Self {
        let json = fs::read(file(directory, output)).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }

    /// True if the batch is wholly in the files.
    pub fn has(&self, id: BatchId) -> bool {
        self.batches.contains(&id)
    }

    /// Notes that a batch is wholly in the files, of which `parts` are not finished.
    pub(super) fn note<'a>(
        &mut self,
        id: BatchId,
        parts: impl Iterator<Item = &'a Part>,
        (directory, output): (&Path, Output),
    ) -> io::Result<()> {
        self.batches.push(id);
        let excess = self.batches.len().saturating_sub(REMEMBERED);
        self.batches.drain(..excess);
        self.files = parts.map(FileLength::of).collect();
        let json = serde_json::to_vec(self)?;
        let path = file(directory, output);
        let new = path.with_extension("new");
        Access::PRIVATE.rewrite_file(&new)?.write_all(&json)?;
        fs::rename(new, path)
    }

    /// Cuts an unfinished file to its length after the last whole batch. Returns false if it was
    /// created afterwards: then none of its records is of a whole batch.
    pub(super) fn cut(&self, part: &Path) -> io::Result<bool> {
        let path = BASE64.encode(part.as_os_str().as_bytes());
        let Some(length) = self.files.iter().find(|file| file.path == path) else {
            return Ok(false);
        };
        let tail = BASE64.decode(&length.tail).map_err(io::Error::other)?;
        let file = File::options().write(true).open(part)?;
        file.write_all_at(&tail, length.body)?;
        file.set_len(length.body + tail.len() as u64)?;
        Ok(true)
    }
}

impl FileLength {
    fn of(part: &Part) -> Self {
        let (path, body, tail) = part.length();
        let path = BASE64.encode(path.as_os_str().as_bytes());
        Self { path, body, tail: BASE64.encode(tail) }
    }
}
