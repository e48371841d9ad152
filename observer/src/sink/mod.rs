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
mod queue;
mod recovery;
mod stdout;
#[cfg(test)]
mod tests;
mod text;
mod units;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use counts::Counts;
pub use delivery::{
    Checksum, Delivery, DeliveryObserver, DeliveryOptions, Finished, Inbox, Refusal, Store, StoreError,
    StoreOptions,
};
pub use place::{NO_ACCOUNT, NO_REGION, Partition, is_account, is_region};
pub use recovery::{Leftovers, Recovered};

use self::{
    json::JsonSink,
    parquet::ParquetSink,
    queue::{Queue, Settles},
    stdout::StdoutSink,
    text::TextSink,
};
use crate::{
    record::{Batch, Context},
    worker::{Deadline, Worker, WorkerError},
};

/// One place that takes records. It tells the observer what became of them.
pub trait Sink: Send {
    /// Writes a batch. When it returns, each record of it is settled: told as written or as lost.
    fn write(&mut self, batch: &Batch);

    /// Finishes what is open. Called once, at the end.
    fn close(&mut self) -> Result<(), CloseError>;
}

/// What an output leaves undone at its end.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Standard output fails.
    #[error("standard output cannot be written")]
    Stdout,
    /// Files cannot be written.
    #[error("records could not be written below {0}")]
    Unwritable(PathBuf),
    /// Files are written and have no final name.
    #[error("{files} files below {directory} are unfinished; the next start finishes them")]
    Unfinished {
        /// How many.
        files: usize,
        /// Where.
        directory: PathBuf,
    },
    /// Its thread gives no result.
    #[error("{0}")]
    Thread(#[from] WorkerError),
    /// Its thread gives no result, and records were still to be written.
    #[error("{lost} are lost: {error}")]
    Lost {
        /// What was not written.
        lost: Counts,
        /// Why there is no result.
        error: WorkerError,
    },
}

/// What the outputs leave undone at their end.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(output, error)| format!("{}: {error}", output.as_str())).collect::<Vec<_>>().join("; "))]
pub struct SinksError(Vec<(Output, CloseError)>);

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
    /// The daemon stopped, and its output did not take them within the time that a stop may take.
    StopTimeout,
}

impl SinkLoss {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::QueueFull, Self::WriteError, Self::FileGone, Self::SpoolFull, Self::StopTimeout];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteError => "write_error",
            Self::FileGone => "file_gone",
            Self::SpoolFull => "spool_full",
            Self::StopTimeout => "stop_timeout",
        }
    }
}

/// Told what becomes of records.
pub trait SinkObserver: Send + Sync {
    /// These reached an output.
    fn written(&self, output: Output, counts: &Counts);
    /// These did not, or are gone from it.
    fn lost(&self, output: Output, counts: &Counts, reason: SinkLoss);
    /// These were told of by one of the above, and are done with.
    fn settled(&self, _: &Counts) {}
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
    queue: Arc<Queue>,
    thread: Worker<Result<(), CloseError>>,
}

impl Lane {
    /// Starts a sink's thread; `tells` where it is the one that tells what is in no output.
    fn start(output: Output, tells: bool, options: &SinkOptions, observer: &ObserverRef) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let settles = Settles { queue: Arc::clone(&queue), observer: observer.clone() };
        let mut sink = options.open(output, &ObserverRef::new(Arc::new(settles)))?;
        let left_out =
            (tells && options.context.leaves_out()).then(|| (Arc::clone(&options.context), observer.clone()));
        let batches = Abandons(Arc::clone(&queue));
        let name = match output {
            Output::Jsonl => "sink-jsonl",
            Output::Text => "sink-text",
            Output::Parquet => "sink-parquet",
            Output::Stdout => "sink-stdout",
        };
        let thread = Worker::spawn(name, move || {
            let batches = batches;
            while let Some(batch) = batches.0.next() {
                if let Some((context, observer)) = &left_out {
                    observer.left_out(&Counts::of(batch.left_out(context)));
                }
                sink.write(&batch);
                drop(batch);
                batches.0.done();
            }
            sink.close()
        })?;
        Ok(Self { output, queue, thread })
    }
}

/// Abandons a queue when its thread ends, however it ends: nobody waits for it in vain.
struct Abandons(Arc<Queue>);

impl Drop for Abandons {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Sinks {
    /// Starts a thread for each output.
    pub fn start(options: &SinkOptions, observer: Arc<dyn SinkObserver>) -> io::Result<Self> {
        let observer = ObserverRef(observer);
        let outputs = options.outputs.iter().enumerate();
        // One tells for all outputs: they leave out the same.
        let lanes = outputs.map(|(number, output)| Lane::start(*output, number == 0, options, &observer));
        let lanes = lanes.collect::<io::Result<_>>()?;
        Ok(Self { lanes, context: Arc::clone(&options.context), observer })
    }

    /// Hands a batch over without waiting.
    pub fn offer(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for lane in self.lanes.iter().filter(|lane| !lane.queue.offer(&batch)) {
            self.drop_batch(lane.output, &batch);
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
            lane.queue.send(&batch);
        }
    }

    /// Hands the last batch over, and closes the sinks.
    pub fn finish(self, last: Batch, deadline: &Deadline) -> Result<(), SinksError> {
        let last = Arc::new(last);
        for lane in &self.lanes {
            lane.queue.finish(&last);
        }
        drop(last);
        self.close(deadline)
    }

    /// Waits until everything is written, and closes the sinks. An output that is not done at the deadline is left
    /// alone, and what it has not written is lost.
    pub fn close(self, deadline: &Deadline) -> Result<(), SinksError> {
        let Self { lanes, context, observer } = self;
        // All at once: one that has much to write must not keep the others waiting.
        for lane in &lanes {
            lane.queue.close();
        }
        let mut undone = Vec::new();
        for Lane { output, queue, thread } in lanes {
            let error = match thread.join(deadline) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(error) => {
                    queue.abandon();
                    let lost = queue.unsettled(&context);
                    give_up(output, &lost, &error, &observer);
                    if lost == Counts::default() { error.into() } else { CloseError::Lost { lost, error } }
                }
            };
            undone.push((output, error));
        }
        if undone.is_empty() { Ok(()) } else { Err(SinksError(undone)) }
    }
}

/// Counts what an output was given and has not written, as lost.
fn give_up(output: Output, lost: &Counts, error: &WorkerError, observer: &ObserverRef) {
    if *lost == Counts::default() {
        return;
    }
    tracing::error!(
        output = output.as_str(),
        records = lost.records(),
        packets = lost.packets,
        bytes = lost.bytes,
        %error,
        "an output did not take its last records: they are lost"
    );
    let late = matches!(error, WorkerError::Late(_));
    observer.lost(output, lost, if late { SinkLoss::StopTimeout } else { SinkLoss::WriteError });
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
