//! The observer that sinks report to, and the events that they report.

use std::{fmt, sync::Arc};

use super::{counts::Counts, output::Output};

/// Receives the outcome of every record and file.
pub trait SinkObserver: Send + Sync {
    /// These records reached an output.
    fn written(&self, output: Output, counts: &Counts);
    /// These records did not reach an output, or were lost from it later.
    fn lost(&self, output: Output, counts: &Counts, reason: SinkLoss);
    /// These records were passed to `written` or `lost` and need no more work.
    fn settled(&self, _: &Counts) {}
    /// The user's settings exclude these records from all outputs.
    fn left_out(&self, counts: &Counts);
    /// The last attempt to write to an output failed, or succeeded again.
    fn failing(&self, output: Output, failing: bool);
    /// A file was renamed to its final name.
    fn finished(&self, output: Output);
    /// An unfinished file of an earlier run was recovered, with this result.
    fn recovered(&self, how: Recovered);
}

/// A [`SinkObserver`] that implements `Debug`.
#[derive(Clone)]
pub struct ObserverRef(Arc<dyn SinkObserver>);

impl ObserverRef {
    /// Wraps an observer.
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

/// Reason for the loss of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkLoss {
    /// The queue was full: the output is slower than windows close.
    QueueFull,
    /// A write failed.
    WriteError,
    /// The records were written to a file that was removed before it was finished.
    FileGone,
    /// The records were written to a file that was removed because too many files waited for
    /// delivery.
    SpoolFull,
    /// The output did not write the records within the stop timeout.
    StopTimeout,
}

impl SinkLoss {
    /// Every reason.
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

/// Result of recovering an unfinished file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// The file got its final name. An incomplete record at its end was removed.
    Finished,
    /// The file held no complete record and was removed.
    Empty,
    /// The file cannot be read. It was renamed, so that readers ignore it.
    SetAside,
}

impl Recovered {
    /// Every result.
    pub const ALL: [Self; 3] = [Self::Finished, Self::Empty, Self::SetAside];

    /// The value of the label `result`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Empty => "empty",
            Self::SetAside => "set_aside",
        }
    }
}
