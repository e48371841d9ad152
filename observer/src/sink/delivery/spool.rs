use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::Finished;
use crate::sink::{Counts, Output, files_below, part::is_ours};

/// Finished files that wait to be delivered, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Spool {
    files: VecDeque<Waiting>,
    bytes: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    /// Of which output, and what is in it; unknown of a file of an earlier run.
    pub(super) counts: Option<(Output, Counts)>,
    pub(super) bytes: u64,
}

impl Spool {
    /// What earlier runs have left below an output directory.
    pub(super) fn find(directory: &Path) -> Self {
        let mut found: Vec<(SystemTime, Waiting)> = files_below(directory)
            .into_iter()
            .filter(|path| is_finished(path))
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some((metadata.modified().ok()?, Waiting { path, counts: None, bytes: metadata.len() }))
            })
            .collect();
        found.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.path.cmp(&other.path)));
        let mut spool = Self::default();
        for (_, file) in found {
            spool.push(file);
        }
        spool
    }

    /// Adds a file that was just finished; one that is gone again is none.
    pub(super) fn add(&mut self, Finished { path, counts }: Finished) {
        if let Ok(metadata) = fs::metadata(&path) {
            self.push(Waiting { path, counts, bytes: metadata.len() });
        }
    }

    fn push(&mut self, file: Waiting) {
        self.bytes += file.bytes;
        self.files.push_back(file);
    }

    /// The oldest, no longer in here.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let file = self.files.pop_front()?;
        self.bytes -= file.bytes;
        Some(file)
    }

    /// One that was taken and not delivered.
    pub(super) fn put_back(&mut self, file: Waiting) {
        self.bytes += file.bytes;
        self.files.push_front(file);
    }

    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Whether a file is one of ours and finished.
fn is_finished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    is_ours(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_files_of_ours_wait() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("AWSLogs/123456789012/vpcflowlogs");
        fs::create_dir_all(&folder).unwrap();
        let ours = "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_0123abcd";
        for name in [
            format!("{ours}.jsonl"),
            format!("{ours}.log.gz"),
            format!("{ours}.log.parquet"),
            format!(".{ours}.jsonl.part"),
            format!(".{ours}.csv.incomplete"),
            format!("{ours}.csv"),
            "notes.jsonl".into(),
        ] {
            fs::write(folder.join(name), "12345").unwrap();
        }
        fs::write(directory.path().join(format!("{ours}.jsonl")), "elsewhere").unwrap();
        let mut spool = Spool::find(directory.path());
        assert_eq!((spool.len(), spool.bytes()), (3, 15));
        let first = spool.take().unwrap();
        assert_eq!((spool.len(), spool.bytes()), (2, 10));
        spool.put_back(first);
        assert_eq!((spool.len(), spool.bytes()), (3, 15));
        let path = folder.join("gone");
        spool.add(Finished { path, counts: None });
        assert_eq!(spool.len(), 3);
    }
}
