use std::{
    collections::VecDeque,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::inbox::Finished;
use crate::sink::{counts::Counts, output::Output, part::is_ours, slot::files_below};

/// Finished files that wait for delivery, the oldest first, and files that the store refuses
/// permanently.
///
/// A round tries each file once, so that no file blocks the others.
#[derive(Debug)]
pub(super) struct Spool {
    files: VecDeque<Waiting>,
    bytes: u64,
    /// Number of files added so far.
    count: u64,
    round: u64,
    aside: VecDeque<Waiting>,
    aside_bytes: u64,
}

/// A waiting file.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) path: PathBuf,
    /// Output and records of the file; `None` if an earlier run wrote it.
    pub(super) counts: Option<(Output, Counts)>,
    pub(super) bytes: u64,
    /// Number of files delivered when the store first refused this one.
    pub(super) refused_at: Option<u64>,
    /// Number of files added before this one.
    age: u64,
    /// Round of the last attempt.
    tried: u64,
}

impl Spool {
    /// Finds the finished files of earlier runs below an output directory, also those set aside.
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

    /// Adds a finished file, if it still exists.
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

    /// Removes and returns the next file of this round. `None` ends the round and begins the next.
    pub(super) fn take(&mut self) -> Option<Waiting> {
        let Some(place) = self.files.iter().position(|file| file.tried < self.round) else {
            self.round += 1;
            return None;
        };
        let file = self.files.remove(place)?;
        self.bytes -= file.bytes;
        Some(file)
    }

    /// Returns a file that was not delivered, for the next round.
    pub(super) fn put_back(&mut self, mut file: Waiting) {
        file.tried = self.round;
        self.bytes += file.bytes;
        let place = self.files.partition_point(|other| other.age < file.age);
        self.files.insert(place, file);
    }

    /// Renames a refused file, so that neither readers nor later rounds find it.
    pub(super) fn set_aside(&mut self, mut file: Waiting) -> io::Result<&Waiting> {
        let refused = refused(&file.path);
        fs::rename(&file.path, &refused)?;
        file.path = refused;
        self.aside_bytes += file.bytes;
        self.aside.push_back(file);
        self.aside.back().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Removes and returns the file to drop first: the oldest of those set aside, else the oldest.
    pub(super) fn drop_one(&mut self) -> Option<Waiting> {
        if let Some(file) = self.aside.pop_front() {
            self.aside_bytes -= file.bytes;
            return Some(file);
        }
        let file = self.files.pop_front()?;
        self.bytes -= file.bytes;
        Some(file)
    }

    /// Number and bytes of the waiting files.
    pub(super) fn waiting(&self) -> (u64, u64) {
        (self.files.len() as u64, self.bytes)
    }

    /// Number and bytes of the files set aside.
    pub(super) fn aside(&self) -> (u64, u64) {
        (self.aside.len() as u64, self.aside_bytes)
    }
}

/// Extension of a file that the store refuses. Its name begins with a dot.
const REFUSED: &str = ".refused";

/// Name of a file after it is set aside, in the same folder.
fn refused(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}{REFUSED}"))
}

/// Name of a file before it was set aside; `None` for files of other programs.
pub(super) fn finished_name(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let before = name.strip_prefix('.').and_then(|name| name.strip_suffix(REFUSED));
    let name = before.unwrap_or(name);
    is_ours(name).then(|| path.with_file_name(name))
}

/// Restores the name of a file that an earlier run set aside, as the cause may be corrected since.
fn restored(path: &Path) -> Option<PathBuf> {
    let finished = finished_name(path)?;
    (!finished.exists() && fs::rename(path, &finished).is_ok()).then_some(finished)
}

/// True for finished record files.
fn is_finished(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    is_ours(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_finished_record_files_wait() {
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

    /// A folder with files of these numbers, the oldest first.
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
        // The oldest is dropped first, in any round.
        assert_eq!(number(&spool.drop_one().unwrap()), 1);
    }

    #[test]
    fn files_set_aside_are_found_by_the_next_run_and_dropped_first() {
        let (directory, mut spool) = folder_with(&[1, 2, 3]);
        let first = spool.take().unwrap();
        let second = spool.take().unwrap();
        spool.put_back(first);
        let aside = spool.set_aside(second).unwrap();
        assert!(aside.path.exists() && !is_finished(&aside.path), "{}", aside.path.display());
        assert_eq!((spool.waiting(), spool.aside()), ((2, 10), (1, 5)));
        let mut next = Spool::find(directory.path());
        assert_eq!((next.waiting(), next.aside()), ((3, 15), (0, 0)));
        let mut numbers: Vec<_> =
            std::iter::from_fn(|| next.take()).map(|file| number(&file)).collect();
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
