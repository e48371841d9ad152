//! Delivery of finished files to an object store.
//!
//! Owns: the list of waiting files, the order of uploads, the decision that a store refuses a file
//! permanently, and the pauses between attempts. In: files that got their final names. Out: objects
//! under the keys that VPC Flow Logs uses, and counts of delivered, failed and dropped files.
//!
//! The output directory is the queue. A file is removed only after the store has all of it, so no
//! crash loses or duplicates one: a second upload replaces the same object under the same key, and
//! a store shows an object only when it is complete. While a store is down, files wait up to a
//! configured size; files dropped beyond it are counted.

mod failure;
mod inbox;
mod observer;
mod options;
mod put_error;
mod rounds;
mod service;
mod spool;
mod store;
mod upload;

use std::{io, sync::Arc, time::Duration};

use tokio::sync::watch;

pub use self::{
    failure::Refusal,
    inbox::{Finished, Inbox},
    observer::DeliveryObserver,
    options::DeliveryOptions,
    store::{Checksum, Store, StoreError, StoreOptions},
};
use self::{rounds::Rounds, spool::Spool};
use crate::worker::{Deadline, Worker, WorkerError};

/// The delivery thread.
#[derive(Debug)]
pub struct Delivery {
    thread: Worker<()>,
    stop: watch::Sender<Option<Deadline>>,
}

impl Delivery {
    /// Starts the thread with the files of earlier runs. Call before any file is finished. The
    /// thread ends when it is stopped, or when all inboxes are dropped and all files are delivered.
    pub fn start(
        options: DeliveryOptions,
        observer: Arc<dyn DeliveryObserver>,
    ) -> io::Result<(Self, Inbox)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (inbox, finished) = Inbox::new();
        let (stop, stopped) = watch::channel(None);
        // Before the first new file: a file in the inbox must not be found here too.
        let spool = Spool::find(&options.directory);
        let thread = Worker::spawn("delivery", move || {
            runtime.block_on(Rounds::new(options, observer, finished, stopped, spool).run());
            // A pending name lookup must not delay the end.
            runtime.shutdown_background();
        })?;
        Ok((Self { thread, stop }, inbox))
    }

    /// Delivers until the deadline; the next run delivers the rest. `grace` is additional time to
    /// log the number of undelivered files.
    pub fn stop(self, deadline: &Deadline, grace: Duration) -> Result<(), WorkerError> {
        let _ = self.stop.send(Some(deadline.clone()));
        self.thread.join(&deadline.later(grace))
    }
}
