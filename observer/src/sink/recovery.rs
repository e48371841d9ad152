//! Recovery of files that an earlier run left unfinished.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Read, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, Decompress, FlushDecompress, bufread::GzDecoder, write::GzEncoder};

use super::{
    delivery::{Finished, Inbox},
    gzip::HEADER,
    observer::{ObserverRef, Recovered},
    output::Output,
    parquet,
    part::{self, PART},
    progress::Progress,
    slot::files_below,
};
use crate::linux::access::Access;

/// The unfinished files of earlier runs.
#[derive(Debug)]
pub struct Leftovers {
    parts: Vec<PathBuf>,
    /// Progress of the outputs that the earlier run has interrupted in a batch. This run writes the
    /// batch again.
    interrupted: Vec<(Output, Progress)>,
}

impl Leftovers {
    /// Finds unfinished files below an output directory. Call before any file is written there.
    pub fn find(directory: &Path, interrupted: Vec<(Output, Progress)>) -> Self {
        let mut parts = files_below(directory);
        parts.retain(|file| part::finished(file).is_some());
        Self { parts, interrupted }
    }

    /// Cuts the files of interrupted outputs to their last whole batch. Call before that batch is
    /// written again.
    pub fn cut(&mut self) {
        let Self { parts, interrupted } = self;
        parts.retain(|part| {
            let of_output = interrupted.iter().find(|(output, _)| is_of(part, *output));
            let Some((_, progress)) = of_output else { return true };
            if is_in_use(part) {
                return true;
            }
            match progress.cut(part) {
                Ok(true) => true,
                Ok(false) => {
                    if let Err(error) = fs::remove_file(part) {
                        tracing::warn!(file = %part.display(), %error, "records may be written twice");
                    }
                    false
                }
                Err(error) => {
                    tracing::warn!(file = %part.display(), %error, "records may be written twice");
                    true
                }
            }
        });
    }

    /// Finishes each file, or sets it aside. Skips files that another process is writing.
    pub fn recover(self, observer: &ObserverRef, delivery: Option<&Inbox>) {
        for part in self.parts {
            match recover(&part) {
                Ok(None) => {}
                Ok(Some(how)) => {
                    tracing::warn!(
                        file = %part.display(),
                        result = how.as_str(),
                        "an earlier run left a file unfinished"
                    );
                    observer.recovered(how);
                    if let (Recovered::Finished, Some(path), Some(inbox)) =
                        (how, part::finished(&part), delivery)
                    {
                        inbox.send(Finished { path, counts: None });
                    }
                }
                Err(error) => {
                    tracing::error!(file = %part.display(), %error, "an unfinished file cannot be finished");
                }
            }
        }
    }
}

fn recover(part: &Path) -> io::Result<Option<Recovered>> {
    let file = File::options().read(true).write(true).open(part)?;
    if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) {
        return Ok(None);
    }
    let how = if is_of(part, Output::Jsonl) {
        json(part, &file)?
    } else if is_of(part, Output::Text) {
        text(part, file)?
    } else if is_of(part, Output::Parquet) && parquet::is_whole(&file) {
        finish(part, &file)?
    } else {
        Recovered::SetAside
    };
    match how {
        Recovered::Finished => {}
        Recovered::Empty => fs::remove_file(part)?,
        Recovered::SetAside => fs::rename(part, part::set_aside(part))?,
    }
    Ok(Some(how))
}

/// True if another process writes the file.
fn is_in_use(part: &Path) -> bool {
    let open = File::options().write(true).open(part);
    open.is_ok_and(|file| matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)))
}

fn is_of(part: &Path, output: Output) -> bool {
    let name = part.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    output.ending().is_some_and(|ending| name.ends_with(&format!(".{ending}{PART}")))
}

fn finish(part: &Path, file: &File) -> io::Result<Recovered> {
    let finished = part::finished(part).ok_or(io::ErrorKind::InvalidFilename)?;
    if finished.exists() {
        return Ok(Recovered::SetAside);
    }
    file.sync_all()?;
    fs::rename(part, finished)?;
    if let Some(folder) = part.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(Recovered::Finished)
}

/// Truncates the file after its last complete line.
fn json(part: &Path, file: &File) -> io::Result<Recovered> {
    let is_whole = |line: &[u8]| {
        line.starts_with(b"{\"version\":") && line.ends_with(b"}\n") && !line.contains(&0)
    };
    let mut reader = BufReader::new(file);
    let (mut whole, mut line) = (0, Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 && is_whole(&line) {
        whole += line.len() as u64;
        line.clear();
    }
    if whole == 0 {
        // A complete line in another format is not from the daemon.
        return Ok(if line.ends_with(b"\n") { Recovered::SetAside } else { Recovered::Empty });
    }
    file.set_len(whole)?;
    finish(part, file)
}

/// Keeps a complete file as it is. Rewrites the readable lines of an incomplete one.
fn text(part: &Path, mut file: File) -> io::Result<Recovered> {
    let mut decoder = GzDecoder::new(BufReader::new(&file));
    let is_whole = io::copy(&mut decoder, &mut io::sink()).is_ok()
        && decoder.into_inner().fill_buf().is_ok_and(<[u8]>::is_empty);
    if is_whole {
        return finish(part, &file);
    }
    // Headers written by the daemon are all the same.
    let mut header = Vec::new();
    file.rewind()?;
    (&file).take(HEADER.len() as u64).read_to_end(&mut header)?;
    if !HEADER.starts_with(&header) {
        return Ok(Recovered::SetAside);
    }
    let access = Access::records(None).with_group_of(&file)?;
    let mut lines = BufReader::new(TolerantInflate {
        input: BufReader::new(file),
        inflate: Decompress::new(false),
    });
    let words = |line: &[u8]| line.split(|byte| *byte == b' ').count();
    let (mut head, mut line) = (Vec::new(), Vec::new());
    let has_lines = next_line(&mut lines, &mut head) && next_line(&mut lines, &mut line);
    if !has_lines || words(&line) != words(&head) {
        return Ok(Recovered::Empty);
    }
    // If this is interrupted, the next attempt writes the same content under the same names.
    let salvaged = part.with_extension("salvaged");
    let out = BufWriter::new(access.rewrite_file(&salvaged)?);
    let mut out = GzEncoder::new(out, Compression::fast());
    out.write_all(&head)?;
    while words(&line) == words(&head) {
        out.write_all(&line)?;
        line.clear();
        if !next_line(&mut lines, &mut line) {
            break;
        }
    }
    let file = out.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    fs::rename(&salvaged, part)?;
    finish(part, &file)
}

/// Inflates a deflate stream up to its first error.
struct TolerantInflate {
    input: BufReader<File>,
    inflate: Decompress,
}

impl Read for TolerantInflate {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let input = self.input.fill_buf()?;
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let result = self.inflate.decompress(input, out, FlushDecompress::None);
            let consumed = (self.inflate.total_in() - before.0) as usize;
            let read = (self.inflate.total_out() - before.1) as usize;
            self.input.consume(consumed);
            let ends = result.is_err() || consumed == 0;
            if read > 0 || ends {
                return Ok(read);
            }
        }
    }
}

/// Reads a line with its line feed. Returns false if there is no complete line.
fn next_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> bool {
    matches!(lines.read_until(b'\n', line), Ok(1..)) && line.ends_with(b"\n")
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::sink::{
        counts::Counts,
        files::{Encoded, Encoding as _},
        gzip::{Checked, Gzip},
        observer::{SinkLoss, SinkObserver},
        part::Part,
    };

    #[derive(Default)]
    struct Seen(Mutex<Vec<Recovered>>);

    impl SinkObserver for Seen {
        fn written(&self, _: Output, _: &Counts) {}
        fn lost(&self, _: Output, _: &Counts, _: SinkLoss) {}
        fn left_out(&self, _: &Counts) {}
        fn failing(&self, _: Output, _: bool) {}
        fn finished(&self, _: Output) {}
        fn recovered(&self, how: Recovered) {
            self.0.lock().unwrap().push(how);
        }
    }

    const STEM: &str = "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20180620T1620Z";

    /// Recovers one file with this ending and content. Returns the results, the names of all files,
    /// and the content of the first.
    fn after(ending: &str, content: &[u8]) -> (Vec<Recovered>, Vec<String>, Vec<u8>) {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("AWSLogs/123456789012/vpcflowlogs");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!(".{STEM}_0123abcd.{ending}{PART}")), content).unwrap();
        let seen = Arc::new(Seen::default());
        Leftovers::find(directory.path(), Vec::new())
            .recover(&ObserverRef::new(Arc::<Seen>::clone(&seen)), None);
        let mut files: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let content = files.first().map(|file| fs::read(file).unwrap()).unwrap_or_default();
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        let how = seen.0.lock().unwrap().clone();
        (how, files.iter().map(name).collect(), content)
    }

    #[test]
    fn json_files_are_cut_after_the_last_complete_line() {
        let whole = b"{\"version\":2,\"end\":1}\n{\"version\":2,\"end\":2}\n";
        let name = format!("{STEM}_0123abcd.jsonl");
        for behind in
            [&b""[..], b"{\"version\":2,\"en", b"\0\0\0\0", b"{\"version\":2\0}\n", b"x\n"]
        {
            let (how, names, content) = after("jsonl", &[whole, behind].concat());
            assert_eq!((how, names), (vec![Recovered::Finished], vec![name.clone()]));
            assert_eq!(content, whole);
        }
        for content in [&b""[..], b"{\"version\":2", b"\0\0"] {
            let (how, names, _) = after("jsonl", content);
            assert_eq!((how, names.len()), (vec![Recovered::Empty], 0));
        }
    }

    fn unpacked(file: &[u8]) -> String {
        let mut text = String::new();
        GzDecoder::new(file).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn text_files_are_cut_after_the_last_readable_line() {
        let mut gzip = Gzip::new(b"end action\n".to_vec());
        let mut file = Vec::new();
        let mut state = Checked::default();
        let mut bodies = Vec::new();
        for unit in [&b"1 ACCEPT\n2 ACCEPT\n"[..], b"3 ACCEPT\n"] {
            let Encoded { bytes, body, state: next } =
                gzip.encode(&state, file.len() as u64, unit).unwrap();
            file.extend_from_slice(&bytes[..body]);
            bodies.push((file.len(), bytes[body..].to_vec()));
            state = next;
        }
        for (body, tail) in &bodies {
            let whole = [&file[..*body], tail].concat();
            let (how, names, content) = after("log.gz", &whole);
            assert_eq!(
                (how, names),
                (vec![Recovered::Finished], vec![format!("{STEM}_0123abcd.log.gz")])
            );
            assert_eq!(content, whole);
        }
        // Cut within the second unit, and overwritten in part of the first unit's tail.
        for broken in
            [file[..bodies[1].0 - 3].to_vec(), [&file[..bodies[0].0], &[0xff; 7]].concat()]
        {
            let (how, names, content) = after("log.gz", &broken);
            assert_eq!(how, [Recovered::Finished]);
            assert_eq!(names, [format!("{STEM}_0123abcd.log.gz")]);
            let text = unpacked(&content);
            assert!(
                text.starts_with("end action\n1 ACCEPT\n2 ACCEPT\n") && text.ends_with('\n'),
                "{text:?}"
            );
        }
        for broken in [&b""[..], &file[..5], &file[..11]] {
            let (how, names, _) = after("log.gz", broken);
            assert_eq!((how, names.len()), (vec![Recovered::Empty], 0));
        }
    }

    #[test]
    fn files_that_the_daemon_cannot_have_written_are_set_aside() {
        for (ending, content) in [
            ("jsonl", &b"\n{\"version\":2,\"end\":1}\n"[..]),
            ("jsonl", b"x\n"),
            ("log.gz", b"no gzip"),
            ("log.parquet", b"PAR1"),
        ] {
            let (how, names, left) = after(ending, content);
            assert_eq!((how, &left[..]), (vec![Recovered::SetAside], content));
            assert_eq!(names, [format!(".{STEM}_0123abcd.{ending}.incomplete")]);
        }
    }

    #[test]
    fn files_with_other_names_are_left_alone() {
        let (how, names, content) = after("csv", b"1,2");
        assert_eq!((how, content), (Vec::new(), b"1,2".to_vec()));
        assert_eq!(names, [format!(".{STEM}_0123abcd.csv{PART}")]);
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("AWSLogs");
        fs::create_dir_all(&folder).unwrap();
        let finished = folder.join(format!("{STEM}_0123abcd.jsonl"));
        fs::write(&finished, "mine").unwrap();
        fs::write(folder.join(format!(".{STEM}_0123abcd.jsonl{PART}")), "{\"version\":2}\n")
            .unwrap();
        let seen = Arc::new(Seen::default());
        Leftovers::find(directory.path(), Vec::new())
            .recover(&ObserverRef::new(Arc::<Seen>::clone(&seen)), None);
        assert_eq!(*seen.0.lock().unwrap(), [Recovered::SetAside]);
        assert_eq!(fs::read(&finished).unwrap(), b"mine");
    }

    #[test]
    fn files_that_another_process_writes_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("AWSLogs");
        let part = Part::create(Access::records(None), &folder, STEM, "jsonl").unwrap();
        let seen = Arc::new(Seen::default());
        Leftovers::find(directory.path(), Vec::new())
            .recover(&ObserverRef::new(Arc::<Seen>::clone(&seen)), None);
        assert!(seen.0.lock().unwrap().is_empty() && !part.is_gone());
    }
}
