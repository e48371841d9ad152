//! Where records go.
//!
//! Owns: files and standard output, and the queue in front of them. In: [`Batch`]es. Out: bytes, and counts of what
//! was written and what was not. Runs on a thread of its own, so that a slow disk stops nothing but itself.

mod file;
mod stdout;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
};

pub use file::{FileKind, FileSink};
pub use stdout::StdoutSink;

use crate::record::{Batch, Format};

/// One place that takes records.
pub trait Sink: Send {
    /// Writes a batch.
    fn write(&mut self, batch: &Batch) -> io::Result<()>;

    /// Finishes what is open. Called once, at the end.
    fn close(&mut self) -> io::Result<()>;

    /// For messages.
    fn name(&self) -> String;
}

/// Why records are in no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkLoss {
    /// The queue was full: the sinks are slower than the windows come.
    QueueFull,
    /// Writing failed.
    WriteError,
}

impl SinkLoss {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::QueueFull, Self::WriteError];

    /// The value of the label `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WriteError => "write_error",
        }
    }
}

/// Told of every batch that is written or lost.
pub trait SinkObserver: Send + Sync {
    /// A batch reached a sink.
    fn written(&self, batch: &Batch);
    /// It did not.
    fn lost(&self, batch: &Batch, reason: SinkLoss);
}

/// Windows that wait while one is written. A window with a million flows takes 90 MB.
const QUEUE: usize = 2;

/// The sinks' thread and the queue that leads to it.
#[derive(Debug)]
pub struct Sinks {
    queue: Option<SyncSender<Batch>>,
    /// Returns what could not be closed, by the sinks' names.
    thread: Option<JoinHandle<Vec<String>>>,
    observer: ObserverRef,
}

/// A [`SinkObserver`] that can be shown.
#[derive(Clone)]
struct ObserverRef(Arc<dyn SinkObserver>);

impl std::fmt::Debug for ObserverRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SinkObserver")
    }
}

impl Sinks {
    /// Starts the thread.
    pub fn start(mut sinks: Vec<Box<dyn Sink>>, observer: Arc<dyn SinkObserver>) -> io::Result<Self> {
        let (queue, batches) = sync_channel::<Batch>(QUEUE);
        let observer = ObserverRef(observer);
        let seen = observer.clone();
        let thread = thread::Builder::new().name("sinks".into()).spawn(move || {
            for batch in batches {
                for sink in &mut sinks {
                    match sink.write(&batch) {
                        Ok(()) => seen.0.written(&batch),
                        Err(error) => {
                            tracing::error!(sink = sink.name(), %error, records = batch.len(), "records were not written");
                            seen.0.lost(&batch, SinkLoss::WriteError);
                        }
                    }
                }
            }
            let mut unclosed = Vec::new();
            for sink in &mut sinks {
                if let Err(error) = sink.close() {
                    unclosed.push(format!("{}: {error}", sink.name()));
                }
            }
            unclosed
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread), observer })
    }

    /// Hands a batch over without waiting.
    pub fn offer(&self, batch: Batch) {
        let Some(queue) = &self.queue else { return };
        if let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = queue.try_send(batch) {
            tracing::error!(
                records = batch.len(),
                "the sinks are too slow: the records of a window are dropped"
            );
            self.observer.0.lost(&batch, SinkLoss::QueueFull);
        }
    }

    /// Hands a batch over, and waits until there is room for it.
    pub fn send(&self, batch: Batch) {
        if let Some(queue) = &self.queue {
            // Fails only if the thread is gone, which `close` reports.
            let _ = queue.send(batch);
        }
    }

    /// Hands the last batch over, and closes the sinks.
    pub fn finish(self, last: Batch) -> Result<(), String> {
        self.send(last);
        self.close()
    }

    /// Waits until everything is written, and closes the sinks. The error says what was not written.
    pub fn close(mut self) -> Result<(), String> {
        self.queue = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(unclosed)) if unclosed.is_empty() => Ok(()),
            Some(Ok(unclosed)) => Err(unclosed.join("; ")),
            _ => Err("the sinks' thread panicked".into()),
        }
    }
}

/// What a sink is made of.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Where files go.
    pub directory: PathBuf,
    /// Fields of text records.
    pub format: Format,
    /// `fl-…`: the flow log that the files say they belong to.
    pub flow_log_id: String,
}
