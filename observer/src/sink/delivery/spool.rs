use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::Finished;
use crate::sink::{Counts, Output, files_below, part::is_ours};

/// Finished files that are to be delivered, the oldest first, and those that the store refuses for good.
///
/// They are tried in rounds: each file once, then those that failed again. So none holds up the others.
#[derive(Debug)]
pub(super) struct Spool {
    files: VecDeque<Waiting>,
    bytes: u64,
    /// How many files there have been.
    count: u64,
    round: u64,
    aside: VecDeque<Waiting>,
    aside_bytes: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    /// Of which output, and what is in it; unknown of a file of an earlier run.
    pub(super) counts: Option<(Output, Counts)>,
    pub(super) bytes: u64,
    /// How many the store had taken when it first refused this one.
    pub(super) refused_at: Option<u64>,
    /// How many came before it.
    age: u64,
    /// The round in which it was last tried.
    tried: u64,
}

impl Spool {
    /// What earlier runs have left below an output directory, with what they set aside.
    pub(super) fn find(directory: &Path) -> Self {
        let mut found: Vec<(SystemTime, u64, PathBuf)> = files_below(directory)
            .into_iter()
            .filter_map(|path| if is_finished(&path) { Some(path) } else { restored(&path) })
            .filter_map(|path| {
                let metadata = fs::metadata(&path).ok()?;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        found.sort();
        let mut spool = Self {
            files: VecDeque::new(),
            bytes: 0,
            count: 0,
            round: 1,
            aside: VecDeque::new(),
            aside_bytes: 0,
        };
        for (_, bytes, path) in found {
            spool.push(path, None, bytes);
        }
        spool
    }

    /// Adds a file that was just finished; one that is gone again is none.
    pub(super) fn add(&mut self, Finished { path, counts }: Finished) {
        if let Ok(metadata) = fs::metadata(&path) {
            self.push(path, counts, metadata.len());
        }
    }

    fn push(&mut self, path: PathBuf, counts: Option<(Output, Counts)>, bytes: u64) {
        let (age, tried) = (self.count, 0);
        self.count += 1;
        self.bytes += bytes;
        self.files.push_back(Waiting { path, counts, bytes, refused_at: None, age, tried });
    }

    /// The next to be tried, no longer in here. `None` where the round is over, and the next one begins.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let Some(place) = self.files.iter().position(|file| file.tried < self.round) else {
            self.round += 1;
            return None;
        };
        let file = self.files.remove(place)?;
        self.bytes -= file.bytes;
        Some(file)
    }

    /// One that was taken and not delivered: it is tried again in the next round.
    pub(super) fn put_back(&mut self, mut file: Waiting) {
        file.tried = self.round;
        self.bytes += file.bytes;
        let place = self.files.partition_point(|other| other.age < file.age);
        self.files.insert(place, file);
    }

    /// Renames a file that was taken and that the store refuses, so that no reader and no round finds it.
    pub(super) fn set_aside(&mut self, mut file: Waiting) -> io::Result<&Waiting> {
        let refused = refused(&file.path);
        fs::rename(&file.path, &refused)?;
        file.path = refused;
        self.aside_bytes += file.bytes;
        self.aside.push_back(file);
        self.aside.back().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The one that is dropped first where there are too many: the oldest of those that the store refuses, else the
    /// oldest.
    pub(super) fn drop_one(&mut self) -> Option<Waiting> {
        if let Some(file) = self.aside.pop_front() {
            self.aside_bytes -= file.bytes;
            return Some(file);
        }
        let file = self.files.pop_front()?;
        self.bytes -= file.bytes;
        Some(file)
    }

    /// How many wait, and their bytes.
    pub(super) fn waiting(&self) -> (u64, u64) {
        (self.files.len() as u64, self.bytes)
    }

    /// How many are set aside, and their bytes.
    pub(super) fn aside(&self) -> (u64, u64) {
        (self.aside.len() as u64, self.aside_bytes)
    }
}

/// Ends the name of a file that the store refuses; a dot begins it.
const REFUSED: &str = ".refused";

/// Where a file is set aside: beside where it was.
fn refused(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{REFUSED}"))
}

/// The name that a file has, or had before it was set aside.
pub(super) fn finished_name(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let before = name.strip_prefix('.').and_then(|name| name.strip_suffix(REFUSED));
    let name = before.unwrap_or(name);
    is_ours(name).then(|| path.with_file_name(name))
}

/// Gives a file that an earlier run set aside its name back: what stood against it may be mended.
fn restored(path: &Path) -> Option<PathBuf> {
    let finished = finished_name(path)?;
    (!finished.exists() && fs::rename(path, &finished).is_ok()).then_some(finished)
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
        assert_eq!(spool.waiting(), (3, 15));
        let first = spool.take().unwrap();
        assert_eq!(spool.waiting(), (2, 10));
        spool.put_back(first);
        assert_eq!(spool.waiting(), (3, 15));
        let path = folder.join("gone");
        spool.add(Finished { path, counts: None });
        assert_eq!(spool.waiting(), (3, 15));
    }

    /// A folder with files of these numbers, the older first.
    fn folder_with(numbers: &[u32]) -> (tempfile::TempDir, Spool) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("AWSLogs");
        fs::create_dir_all(&folder).unwrap();
        let mut spool = Spool::find(directory.path());
        for number in numbers {
            let path = folder.join(format!(
                "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z_{number:08x}.jsonl"
            ));
            fs::write(&path, "12345").unwrap();
            spool.add(Finished { path, counts: None });
        }
        (directory, spool)
    }

    fn number(file: &Waiting) -> u32 {
        let name = file.path.to_string_lossy();
        let digits = name.rsplit_once("Z_").unwrap().1.get(..8).unwrap();
        u32::from_str_radix(digits, 16).unwrap()
    }

    #[test]
    fn each_file_is_tried_once_before_any_is_tried_again() {
        let (_directory, mut spool) = folder_with(&[1, 2, 3]);
        let mut tried = Vec::new();
        for _ in 0..2 {
            while let Some(file) = spool.take() {
                tried.push(number(&file));
                spool.put_back(file);
            }
        }
        assert_eq!(tried, [1, 2, 3, 1, 2, 3]);
        // What is dropped first is the oldest all the same.
        assert_eq!(number(&spool.drop_one().unwrap()), 1);
    }

    #[test]
    fn what_is_set_aside_is_found_by_the_next_run_and_dropped_first() {
        let (directory, mut spool) = folder_with(&[1, 2, 3]);
        let first = spool.take().unwrap();
        let second = spool.take().unwrap();
        spool.put_back(first);
        let aside = spool.set_aside(second).unwrap();
        assert!(aside.path.exists() && !is_finished(&aside.path), "{}", aside.path.display());
        assert_eq!((spool.waiting(), spool.aside()), ((2, 10), (1, 5)));
        let mut next = Spool::find(directory.path());
        assert_eq!((next.waiting(), next.aside()), ((3, 15), (0, 0)));
        let mut numbers: Vec<_> = std::iter::from_fn(|| next.take()).map(|file| number(&file)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
        let (_directory, mut spool) = folder_with(&[4, 5]);
        let fourth = spool.take().unwrap();
        let fifth = spool.take().unwrap();
        spool.put_back(fourth);
        spool.set_aside(fifth).unwrap();
        assert_eq!(number(&spool.drop_one().unwrap()), 5);
        assert_eq!(number(&spool.drop_one().unwrap()), 4);
        assert!(spool.drop_one().is_none());
    }
}
