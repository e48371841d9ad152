use std::{io, path::PathBuf};

use crate::{
    http::TrustError,
    record::{FilterError, FormatError, ServiceRangesError},
    sink::StoreError,
    text_file::EncodingError,
};

/// Error of a configuration. The text is one line of advice.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}: give --config a file that can be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file is not UTF-8 text.
    #[error("configuration file {path}: {source}")]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The encoding that was found.
        source: EncodingError,
    },
    /// The file holds an unknown key or an invalid value.
    #[error(
        "{message} (given in {path}, line {line}; see `observer run --help` for the keys and their values)"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Number of the line.
        line: usize,
        /// The error in this line.
        message: String,
    },
    /// A value cannot be written as TOML, such as a path that is not UTF-8.
    #[error("printing the configuration: {0}")]
    Print(toml::ser::Error),
    /// The source `file` has no file.
    #[error("--source file needs --tasks-file: give it the saved output of `aws ecs describe-tasks`")]
    NoTasksFile,
    /// A replay writes files only to a directory that is given, so that they do not mix with the
    /// daemon's.
    #[error("--output writes files: give the directory with --output-dir")]
    NoOutputDir,
    /// Invalid list of fields.
    #[error("--log-format: {0}")]
    LogFormat(#[from] FormatError),
    /// Invalid filter rule.
    #[error("--filter: {0}")]
    Filter(#[from] FilterError),
    /// Invalid destination.
    #[error("--deliver: {0}")]
    Deliver(#[from] StoreError),
    /// A delivery option was given without `--deliver`.
    #[error("--{0} needs --deliver: give the destination of the files with it")]
    NoDelivery(&'static str),
    /// Delivery without an output that writes files.
    #[error("--deliver is for files: give --output jsonl, text or parquet too")]
    NoFiles,
    /// The destination lies in the output directory, so files would overwrite themselves and be
    /// removed.
    #[error(
        "--deliver file://{folder} lies in the output directory {directory}: give a folder outside of it"
    )]
    Inside {
        /// The destination.
        folder: PathBuf,
        /// The output directory.
        directory: PathBuf,
    },
    /// Unusable file of CA certificates.
    #[error("{by} {source}")]
    CaBundle {
        /// The flag or the variable that names the file.
        by: &'static str,
        /// The error.
        source: TrustError,
    },
    /// The spool is too small for the file size.
    #[error("--spool-size {0}B: give more than twice --file-size, such as 1GiB")]
    SpoolSize(u64),
    /// The value is not allowed in file names.
    #[error("--{flag} {value:?}: give {wanted}")]
    Name {
        /// The flag.
        flag: &'static str,
        /// The value.
        value: String,
        /// Description of a valid value.
        wanted: &'static str,
    },
    /// `file-size` is zero.
    #[error("--file-size 0: give a size such as 75MB")]
    FileSize,
    /// The file of AWS's address ranges cannot be read.
    #[error("--ip-ranges {path}: {source}: give a copy of https://ip-ranges.amazonaws.com/ip-ranges.json")]
    IpRanges {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// The file does not have the format that AWS publishes.
    #[error("--ip-ranges {path}: {source}: give a copy of https://ip-ranges.amazonaws.com/ip-ranges.json")]
    Services {
        /// The file.
        path: PathBuf,
        /// The error.
        source: ServiceRangesError,
    },
}

impl ConfigError {
    /// Long name of the flag of the invalid setting.
    pub const fn flag(&self) -> Option<&'static str> {
        Some(match self {
            // These errors name the place themselves.
            Self::File { .. } | Self::Print(_) => return None,
            Self::Read { .. } | Self::Encoding { .. } => "config",
            Self::NoTasksFile => "source",
            Self::NoOutputDir | Self::NoFiles => "output",
            Self::LogFormat(_) => "log-format",
            Self::Filter(_) => "filter",
            Self::Deliver(_) | Self::Inside { .. } => "deliver",
            Self::NoDelivery(flag) | Self::Name { flag, .. } => flag,
            Self::SpoolSize(_) => "spool-size",
            Self::CaBundle { .. } => "ca-bundle",
            Self::FileSize => "file-size",
            Self::IpRanges { .. } | Self::Services { .. } => "ip-ranges",
        })
    }
}
