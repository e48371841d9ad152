//! The kinds of output, and the interface of the sink that writes one.

use std::path::PathBuf;

use clap::ValueEnum;
use serde::Serialize;

use super::counts::Counts;
use crate::{record::Batch, worker::WorkerError};

/// An output format and its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// JSON lines in files, `.jsonl`: one flat object per record
    Jsonl,
    /// Text in the format of VPC Flow Logs in S3, in files, `.log.gz`
    Text,
    /// Parquet in the format of VPC Flow Logs in S3, in files, `.log.parquet`
    Parquet,
    /// Text without a header on standard output, for log shippers
    Stdout,
}

impl Output {
    /// Every output.
    pub const ALL: [Self; 4] = [Self::Jsonl, Self::Text, Self::Parquet, Self::Stdout];

    /// Value of `--output` and of the label `output`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Text => "text",
            Self::Parquet => "parquet",
            Self::Stdout => "stdout",
        }
    }

    /// Extension of the file names; `None` for standard output.
    pub const fn ending(self) -> Option<&'static str> {
        match self {
            Self::Jsonl => Some("jsonl"),
            Self::Text => Some("log.gz"),
            Self::Parquet => Some("log.parquet"),
            Self::Stdout => None,
        }
    }
}

/// A writer of records for one output. It reports the outcome of each record to its observer.
pub trait Sink: Send {
    /// Writes a batch. On return, each of its records is reported as written or as lost.
    fn write(&mut self, batch: &Batch);

    /// Finishes all open files. Called once, at the end.
    fn close(&mut self) -> Result<(), CloseError>;
}

/// Error of closing an output.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// The last write to standard output failed.
    #[error("standard output cannot be written")]
    Stdout,
    /// The last write to a file failed.
    #[error("records could not be written below {0}")]
    Unwritable(PathBuf),
    /// Files are written but could not be renamed to their final names.
    #[error("{files} files below {directory} are unfinished; the next start finishes them")]
    Unfinished {
        /// Number of unfinished files.
        files: usize,
        /// Output directory.
        directory: PathBuf,
    },
    /// The output's thread did not return a result.
    #[error("{0}")]
    Thread(#[from] WorkerError),
    /// The output's thread did not return a result, and records were not written yet.
    #[error("{lost} are lost: {error}")]
    Lost {
        /// The records that were not written.
        lost: Counts,
        /// Reason for the missing result.
        error: WorkerError,
    },
}
