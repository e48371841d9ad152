//! Where records go.
//!
//! Owns: files and standard output, and a queue and a thread for each of them; the delivery of finished files. In:
//! [`Batch`]es. Out: bytes, and counts of what was written and what was not. A place that is slow, full or gone stops
//! nothing but itself.
//!
//! ```text
//! batch ─▶ queue ─▶ records by file ─▶ units ─▶ encoding ─▶ part ─▶ file ─▶ object
//! (Sinks)           (lines, parquet)            (files)     (part)          (delivery)
//! ```
//!
//! A unit is some hundred kilobytes of records of one file. It is in the file as a whole or not at all, and after each
//! the part is a whole file in all but its name: what ends a file of its kind is written over by the next unit. So a
//! kill leaves a file that can be read, and a full disk costs the units that found no room.

mod counts;
mod delivery;
mod direct;
mod files;
mod gzip;
mod json;
mod lines;
mod parquet;
mod part;
mod place;
mod recovery;
mod stdout;
#[cfg(test)]
mod tests;
mod text;
mod units;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

pub use counts::Counts;
pub use delivery::{Delivery, DeliveryObserver, DeliveryOptions, Finished, Inbox, Store, StoreError};
pub use place::{NO_ACCOUNT, NO_REGION, Partition, is_account, is_region};
pub use recovery::{Leftovers, Recovered};

use self::{json::JsonSink, parquet::ParquetSink, stdout::StdoutSink, text::TextSink};
use crate::record::{Batch, Context};

/// One place that takes records. It tells the observer what became of them.
pub trait Sink: Send {
    /// Writes a batch.
    fn write(&mut self, batch: &Batch);

    /// Finishes what is open. Called once, at the end. The error says what is not finished.
    fn close(&mut self) -> Result<(), String>;
}

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `.jsonl`: JSON lines.
    Jsonl,
    /// `.log.gz`: AWS's text.
    Text,
    /// `.log.parquet`: AWS's Parquet.
    Parquet,
    /// Text without a header on standard output.
    Stdout,
}

impl Output {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Jsonl, Self::Text, Self::Parquet, Self::Stdout];

    /// The value of `--output`, and of the label `output`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Text => "text",
            Self::Parquet => "parquet",
            Self::Stdout => "stdout",
        }
    }

    /// How names of its files end; standard output has none.
    pub const fn ending(self) -> Option<&'static str> {
        match self {
            Self::Jsonl => Some("jsonl"),
            Self::Text => Some("log.gz"),
            Self::Parquet => Some("log.parquet"),
            Self::Stdout => None,
        }
    }
}

/// Why records are in no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkLoss {
    /// The queue was full: the output is slower than the windows come.
    QueueFull,
    /// Writing failed.
    WriteError,
    /// They were written, and their file went before it was finished.
    FileGone,
    /// They were written, and their file was dropped because too many wait to be delivered.
    SpoolFull,
}

impl SinkLoss {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::QueueFull, Self::WriteError, Self::FileGone, Self::SpoolFull];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteError => "write_error",
            Self::FileGone => "file_gone",
            Self::SpoolFull => "spool_full",
        }
    }
}

/// Told what becomes of records.
pub trait SinkObserver: Send + Sync {
    /// These reached an output.
    fn written(&self, output: Output, counts: &Counts);
    /// These did not, or are gone from it.
    fn lost(&self, output: Output, counts: &Counts, reason: SinkLoss);
    /// These are in no output, as the user wants it.
    fn left_out(&self, counts: &Counts);
    /// Whether what was last tried with an output failed.
    fn failing(&self, output: Output, failing: bool);
    /// A file has its final name.
    fn finished(&self, output: Output);
    /// A file that an earlier run left unfinished.
    fn recovered(&self, how: Recovered);
}

/// A [`SinkObserver`] that can be shown.
#[derive(Clone)]
pub struct ObserverRef(Arc<dyn SinkObserver>);

impl ObserverRef {
    /// Told by all sinks.
    pub fn new(observer: Arc<dyn SinkObserver>) -> Self {
        Self(observer)
    }
}

impl fmt::Debug for ObserverRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkObserver")
    }
}

impl std::ops::Deref for ObserverRef {
    type Target = dyn SinkObserver;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// What sinks are made of.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// What is written, each once.
    pub outputs: Vec<Output>,
    /// Where files go.
    pub directory: PathBuf,
    /// Which folders below.
    pub partition: Partition,
    /// `fl-…`: the flow log that the files say they belong to.
    pub flow_log_id: String,
    /// Bytes after which a file is finished before its time.
    pub file_size: u64,
    /// What is said of all records.
    pub context: Arc<Context>,
    /// Who is told of finished files, if they are to be delivered.
    pub delivery: Option<Inbox>,
}

impl SinkOptions {
    /// Whether anything goes into files.
    pub fn has_files(&self) -> bool {
        self.outputs.iter().any(|output| output.ending().is_some())
    }

    /// Opens one of them.
    pub fn open(&self, output: Output, observer: &ObserverRef) -> io::Result<Box<dyn Sink>> {
        Ok(match output {
            Output::Jsonl => Box::new(JsonSink::new(self, observer.clone())),
            Output::Text => Box::new(TextSink::start(self, observer.clone())?),
            Output::Parquet => Box::new(ParquetSink::new(self, observer.clone())?),
            Output::Stdout => Box::new(StdoutSink::new(Arc::clone(&self.context), observer.clone())),
        })
    }
}

/// Windows that wait while one is written. A window with a million flows takes 95 MB, which all outputs share.
const QUEUE: usize = 2;

/// The sinks' threads and the queues that lead to them.
#[derive(Debug)]
pub struct Sinks {
    lanes: Vec<Lane>,
    context: Arc<Context>,
    observer: ObserverRef,
}

/// One sink's.
#[derive(Debug)]
struct Lane {
    output: Output,
    queue: SyncSender<Arc<Batch>>,
    thread: JoinHandle<Result<(), String>>,
}

impl Sinks {
    /// Starts a thread for each output.
    pub fn start(options: &SinkOptions, observer: Arc<dyn SinkObserver>) -> io::Result<Self> {
        let observer = ObserverRef(observer);
        let lane = |(number, output): (usize, &Output)| {
            let mut sink = options.open(*output, &observer)?;
            // Once for all outputs: they leave out the same.
            let left_out = (number == 0 && options.context.leaves_out())
                .then(|| (Arc::clone(&options.context), observer.clone()));
            let (queue, batches) = sync_channel::<Arc<Batch>>(QUEUE);
            let thread =
                thread::Builder::new().name(format!("sink-{}", output.as_str())).spawn(move || {
                    for batch in batches {
                        if let Some((context, observer)) = &left_out {
                            observer.left_out(&Counts::of(batch.left_out(context)));
                        }
                        sink.write(&batch);
                    }
                    sink.close()
                })?;
            Ok(Lane { output: *output, queue, thread })
        };
        let lanes = options.outputs.iter().enumerate().map(lane).collect::<io::Result<_>>()?;
        Ok(Self { lanes, context: Arc::clone(&options.context), observer })
    }

    /// Hands a batch over without waiting.
    pub fn offer(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for lane in &self.lanes {
            if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) =
                lane.queue.try_send(Arc::clone(&batch))
            {
                self.drop_batch(lane.output, &batch);
            }
        }
    }

    fn drop_batch(&self, output: Output, batch: &Batch) {
        let counts = Counts::of(batch.records(&self.context).map(|(_, record)| record));
        tracing::error!(
            output = output.as_str(),
            records = counts.records(),
            "an output is too slow: the records of a window are dropped"
        );
        self.observer.lost(output, &counts, SinkLoss::QueueFull);
    }

    /// Hands a batch over, and waits until there is room for it.
    pub fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for lane in &self.lanes {
            // Fails only if the thread is gone, which `close` reports.
            let _ = lane.queue.send(Arc::clone(&batch));
        }
    }

    /// Hands the last batch over, and closes the sinks.
    pub fn finish(self, last: Batch) -> Result<(), String> {
        let last = Arc::new(last);
        // All at once: one that has much to write must not keep the others waiting.
        for Lane { queue, .. } in &self.lanes {
            let (sender, batch) = (queue.clone(), Arc::clone(&last));
            if thread::Builder::new().spawn(move || drop(sender.send(batch))).is_err() {
                let _ = queue.send(Arc::clone(&last));
            }
        }
        self.close()
    }

    /// Waits until everything is written, and closes the sinks. The error says what was not written.
    pub fn close(self) -> Result<(), String> {
        // All queues first: each thread closes what it has when its own ends.
        let threads: Vec<_> =
            self.lanes.into_iter().map(|Lane { output, thread, .. }| (output, thread)).collect();
        let mut unfinished = Vec::new();
        for (output, thread) in threads {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => unfinished.push(format!("{}: {error}", output.as_str())),
                _ => unfinished.push(format!("{}: its thread is gone", output.as_str())),
            }
        }
        if unfinished.is_empty() { Ok(()) } else { Err(unfinished.join("; ")) }
    }
}

/// All files below the folders of an output directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![directory.join("AWSLogs")];
    while let Some(folder) = folders.pop() {
        // What cannot be listed can be neither finished nor delivered.
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}
