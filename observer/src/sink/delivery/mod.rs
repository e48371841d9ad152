//! Finished files, put into a store of objects and then removed.
//!
//! Owns: which files wait, in which order they go, which are refused for good, and when a store that does not answer is
//! asked again. In: files that got their final names. Out: objects under AWS's keys, and counts of what went and what
//! did not.
//!
//! The directory is the queue: a finished file is there until the store has all of it, so that no kill loses or doubles
//! one. A file that is put twice is the same object twice, under one key, and a store shows an object when it is whole.
//! While a store is down files wait, within a budget; what the budget drops is counted.

mod courier;
mod failure;
mod service;
mod spool;
mod store;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{
    mpsc::{UnboundedSender, unbounded_channel},
    watch,
};

use self::{courier::Courier, spool::Spool};
pub use self::{
    failure::Refusal,
    store::{Checksum, Store, StoreError, StoreOptions},
};
use super::{Counts, Output};
use crate::worker::{Deadline, Worker, WorkerError};

/// Where files go, and how much of them may wait.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// Where they go.
    pub store: Store,
    /// The output directory.
    pub directory: PathBuf,
    /// Bytes of finished files that may wait or be set aside.
    pub spool_size: u64,
}

/// Told what becomes of finished files.
pub trait DeliveryObserver: Send + Sync {
    /// A file of so many bytes is in the store.
    fn delivered(&self, bytes: u64);
    /// An attempt failed.
    fn delivery_failed(&self);
    /// Whether files cannot be delivered at present, but for those that are refused for good.
    fn delivery_failing(&self, failing: bool);
    /// A file was removed because too many wait; what was in it, unless it is of an earlier run.
    fn dropped(&self, counts: Option<(Output, &Counts)>);
    /// A file is set aside because the store refuses it and takes others.
    fn refused(&self, reason: Refusal);
    /// So many files wait, and so many are set aside, with their bytes.
    fn waiting(&self, waiting: (u64, u64), aside: (u64, u64));
}

/// A file that has its final name.
#[derive(Debug)]
pub struct Finished {
    /// Where it is.
    pub path: PathBuf,
    /// Of which output, and what is in it; unknown of one that an earlier run began.
    pub counts: Option<(Output, Counts)>,
}

/// Where finished files are told of.
#[derive(Clone, Debug)]
pub struct Inbox(UnboundedSender<Finished>);

impl Inbox {
    /// Tells of one. Where nobody listens any more the next run finds it.
    pub(super) fn tell(&self, file: Finished) {
        let _ = self.0.send(file);
    }
}

/// The thread that delivers.
#[derive(Debug)]
pub struct Delivery {
    thread: Worker<()>,
    stop: watch::Sender<Option<Deadline>>,
}

impl Delivery {
    /// Starts it with what earlier runs have left; to be called before any file is finished. It ends when it is stopped,
    /// or when all inboxes are dropped and everything is delivered.
    pub fn start(options: DeliveryOptions, observer: Arc<dyn DeliveryObserver>) -> io::Result<(Self, Inbox)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, inbox) = unbounded_channel();
        let (stop, stopped) = watch::channel(None);
        // Now: what is finished from here on is told of, and would be found twice.
        let spool = Spool::find(&options.directory);
        let thread = Worker::spawn("delivery", move || {
            runtime.block_on(Courier::new(options, observer, inbox, stopped, spool).run());
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok((Self { thread, stop }, Inbox(sender)))
    }

    /// Waits until everything is delivered that can be by then; the rest is for the next run. After the deadline it has
    /// some `grace` to say so.
    pub fn stop(self, deadline: &Deadline, grace: Duration) -> Result<(), WorkerError> {
        let _ = self.stop.send(Some(deadline.clone()));
        self.thread.join(&deadline.later(grace))
    }
}
