//! The settings of the sinks.

use std::{path::PathBuf, sync::Arc};

use super::{delivery::Inbox, output::Output, slot::Partition};
use crate::{linux::access::Access, record::Context};

/// Settings of the sinks.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Outputs to start, each at most once.
    pub outputs: Vec<Output>,
    /// Directory of the record files.
    pub directory: PathBuf,
    /// Access to the files and folders.
    pub access: Access,
    /// Layout of the folders below `directory`.
    pub partition: Partition,
    /// Flow log ID in the names of the files, `fl-…`.
    pub flow_log_id: String,
    /// Size in bytes at which a file is finished before its slot ends.
    pub file_size: u64,
    /// Format, filter and default values of all records.
    pub context: Arc<Context>,
    /// Directory for the progress of the outputs; `None` if they do not continue after a kill.
    pub state: Option<PathBuf>,
    /// Receiver of finished files; `None` without delivery.
    pub delivery: Option<Inbox>,
}

impl SinkOptions {
    /// True if an output writes files.
    pub fn has_files(&self) -> bool {
        self.outputs.iter().any(|output| output.ending().is_some())
    }
}
