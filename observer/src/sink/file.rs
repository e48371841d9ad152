//! Record files, named and rotated as VPC Flow Logs names and rotates those in S3.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    hash::{BuildHasher, RandomState},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use jiff::Timestamp;

use super::{Sink, SinkOptions};
use crate::{
    record::{Batch, Field, Record, Value, write_header, write_json, write_text},
    tasks::Attribute,
};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `.log.gz`: AWS's text.
    Text,
    /// `.jsonl`: JSON lines.
    JsonLines,
}

/// Seconds of records in one file, by their `end` (AWS, "Flow log files").
const SLOT: i64 = 300;
/// Bytes of records after which a file is finished before its time.
const MAX_BYTES: u64 = 75 << 20;
/// What stands in names where no source knows the account: AWS's readers want twelve digits.
const NO_ACCOUNT: &str = "000000000000";
/// Likewise for the region.
const NO_REGION: &str = "local";

/// Writes one kind of file.
#[derive(Debug)]
pub struct FileSink {
    kind: FileKind,
    options: SinkOptions,
    open: BTreeMap<Slot, OpenFile>,
    line: Vec<u8>,
}

/// What goes into one file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    /// UNIX seconds: five minutes of record ends.
    start: i64,
    account: Box<str>,
    region: Box<str>,
}

impl FileSink {
    /// A sink that writes such files below the options' directory.
    pub fn new(kind: FileKind, options: SinkOptions) -> Self {
        Self { kind, options, open: BTreeMap::new(), line: Vec::new() }
    }

    fn write_record(&mut self, record: &Record<'_>) -> io::Result<()> {
        let slot = Slot::of(record);
        self.line.clear();
        match self.kind {
            FileKind::Text => write_text(&self.options.format, record, &mut self.line),
            FileKind::JsonLines => write_json(record, &mut self.line),
        }
        if self.open.get(&slot).is_some_and(|file| file.written >= MAX_BYTES)
            && let Some(file) = self.open.remove(&slot)
        {
            file.finish()?;
        }
        if let Some(file) = self.open.get_mut(&slot) {
            return file.write(&self.line);
        }
        let mut file = OpenFile::create(&self.options, self.kind, &slot)?;
        if self.kind == FileKind::Text {
            let mut header = Vec::new();
            write_header(&self.options.format, &mut header);
            file.write(&header)?;
        }
        file.write(&self.line)?;
        self.open.insert(slot, file);
        Ok(())
    }

    /// Finishes the files to which nothing can be added after `time`.
    fn finish_before(&mut self, time: i64) -> io::Result<()> {
        let mut result = Ok(());
        let done: Vec<Slot> = self.open.keys().filter(|slot| slot.start + SLOT <= time).cloned().collect();
        for slot in done {
            if let Some(file) = self.open.remove(&slot) {
                result = result.and(file.finish());
            }
        }
        result
    }
}

impl Sink for FileSink {
    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        for record in batch.records() {
            if let Err(error) = self.write_record(&record) {
                // What is half written stays under its temporary name; the next window begins anew.
                self.open.clear();
                return Err(error);
            }
        }
        self.finish_before(batch.window.end)
    }

    fn close(&mut self) -> io::Result<()> {
        self.finish_before(i64::MAX)
    }

    fn name(&self) -> String {
        format!("{:?} files in {}", self.kind, self.options.directory.display())
    }
}

impl Slot {
    fn of(record: &Record<'_>) -> Self {
        let end = match Field::End.value(record, 0) {
            Value::Number(end) => end as i64,
            _ => record.window.end,
        };
        let identity = &record.subject.identity;
        let account = identity
            .get(Attribute::AccountId)
            .filter(|account| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()));
        // It becomes the name of a folder.
        let region = identity.get(Attribute::Region).filter(|region| {
            region.len() <= 32
                && region
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        });
        Self {
            start: end.div_euclid(SLOT) * SLOT,
            account: account.unwrap_or(NO_ACCOUNT).into(),
            region: region.unwrap_or(NO_REGION).into(),
        }
    }

    fn directory(&self, base: &Path) -> PathBuf {
        let time = timestamp(self.start);
        base.join("AWSLogs")
            .join(&*self.account)
            .join("vpcflowlogs")
            .join(&*self.region)
            .join(time.strftime("%Y/%m/%d").to_string())
    }

    fn name(&self, flow_log_id: &str, kind: FileKind, unique: u32) -> String {
        let time = timestamp(self.start).strftime("%Y%m%dT%H%MZ");
        let ending = match kind {
            FileKind::Text => "log.gz",
            FileKind::JsonLines => "jsonl",
        };
        format!("{}_vpcflowlogs_{}_{flow_log_id}_{time}_{unique:08x}.{ending}", self.account, self.region)
    }
}

fn timestamp(unix: i64) -> Timestamp {
    Timestamp::from_second(unix).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A file that is being written, under a name that no reader takes for a finished one.
#[derive(Debug)]
struct OpenFile {
    writer: Writer,
    temporary: PathBuf,
    finished: PathBuf,
    written: u64,
}

#[derive(Debug)]
enum Writer {
    Plain(BufWriter<File>),
    Gzip(Box<GzEncoder<BufWriter<File>>>),
}

const BUFFER: usize = 256 << 10;

impl OpenFile {
    fn create(options: &SinkOptions, kind: FileKind, slot: &Slot) -> io::Result<Self> {
        let directory = slot.directory(&options.directory);
        fs::create_dir_all(&directory)?;
        let random = RandomState::new();
        for attempt in 0..100_u32 {
            let name = slot.name(&options.flow_log_id, kind, random.hash_one(attempt) as u32);
            let finished = directory.join(&name);
            let temporary = directory.join(format!(".{name}.part"));
            if finished.exists() {
                continue;
            }
            match File::create_new(&temporary) {
                Ok(file) => {
                    let file = BufWriter::with_capacity(BUFFER, file);
                    let writer = match kind {
                        FileKind::JsonLines => Writer::Plain(file),
                        FileKind::Text => Writer::Gzip(Box::new(GzEncoder::new(file, Compression::fast()))),
                    };
                    return Ok(Self { writer, temporary, finished, written: 0 });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        match &mut self.writer {
            Writer::Plain(file) => file.write_all(bytes),
            Writer::Gzip(file) => file.write_all(bytes),
        }
    }

    /// Everything on disk, then the final name.
    fn finish(self) -> io::Result<()> {
        let file = match self.writer {
            Writer::Plain(file) => file,
            Writer::Gzip(file) => file.finish()?,
        };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        fs::rename(&self.temporary, &self.finished)?;
        match self.finished.parent() {
            Some(directory) => File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}
