use std::path::PathBuf;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::sink::{counts::Counts, output::Output};

/// A record file that has its final name.
#[derive(Debug)]
pub struct Finished {
    /// Path of the file.
    pub path: PathBuf,
    /// Output and records of the file; `None` if an earlier run began it.
    pub counts: Option<(Output, Counts)>,
}

/// Sender of finished files to the delivery thread.
#[derive(Clone, Debug)]
pub struct Inbox(UnboundedSender<Finished>);

impl Inbox {
    /// Creates an inbox, and the receiver of its files.
    pub(super) fn new() -> (Self, UnboundedReceiver<Finished>) {
        let (sender, receiver) = unbounded_channel();
        (Self(sender), receiver)
    }

    /// Passes a file to the delivery thread. If the thread has ended, the next run finds the file.
    pub(in crate::sink) fn send(&self, file: Finished) {
        let _ = self.0.send(file);
    }
}
