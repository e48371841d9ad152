//! Finished files, put into a store of objects and then removed.
//!
//! Owns: which files wait, in which order they go, and when a store that does not answer is asked again. In: files that
//! got their final names. Out: objects under AWS's keys, and counts of what went and what did not.
//!
//! The directory is the queue: a finished file is there until the store has all of it, so that no kill loses or doubles
//! one. A file that is put twice is the same object twice, under one key, and a store shows an object when it is whole.
//! While a store is down files wait, within a budget; what the budget drops is counted.

mod spool;
mod store;
mod strict;

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep_until},
};

pub use self::store::{Store, StoreError};
use self::{
    spool::{Spool, Waiting},
    store::{Note, PutError},
};
use super::{Counts, Output};

/// Where files go, and how much of them may wait.
#[derive(Clone, Debug)]
pub struct DeliveryOptions {
    /// Where they go.
    pub store: Store,
    /// The output directory.
    pub directory: PathBuf,
    /// Bytes of finished files that may wait.
    pub spool_size: u64,
}

/// Told what becomes of finished files.
pub trait DeliveryObserver: Send + Sync {
    /// A file of so many bytes is in the store.
    fn delivered(&self, bytes: u64);
    /// Whether the last attempt failed.
    fn delivery_failing(&self, failing: bool);
    /// A file was removed because too many wait; what was in it, unless it is of an earlier run.
    fn dropped(&self, counts: Option<(Output, &Counts)>);
    /// So many files wait, with so many bytes.
    fn waiting(&self, files: u64, bytes: u64);
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
pub struct Delivery(JoinHandle<()>);

/// Pauses before a store that failed is asked again.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// How long the end waits for what is still to be delivered.
const FAREWELL: Duration = Duration::from_secs(10);

/// How long an attempt may take: as long as a slow line needs, 256 KiB a second.
const fn patience(bytes: u64) -> Duration {
    Duration::from_secs(10 + bytes / (256 << 10))
}

impl Delivery {
    /// Starts it with what earlier runs have left; to be called before any file is finished. It ends when all inboxes
    /// are dropped.
    pub fn start(options: DeliveryOptions, observer: Arc<dyn DeliveryObserver>) -> io::Result<(Self, Inbox)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (sender, inbox) = unbounded_channel();
        // Now: what is finished from here on is told of, and would be found twice.
        let spool = Spool::find(&options.directory);
        let thread = thread::Builder::new().name("delivery".into()).spawn(move || {
            let courier = Courier { options, observer, inbox, spool, farewell: None, failing: None };
            runtime.block_on(courier.run());
            // A name that is still being looked up must not hold up the end.
            runtime.shutdown_background();
        })?;
        Ok((Self(thread), Inbox(sender)))
    }

    /// Waits until everything is delivered that can be; the rest is for the next run.
    pub fn join(self) -> Result<(), String> {
        self.0.join().map_err(|_| "the thread that delivers panicked".into())
    }
}

/// Carries files, one at a time.
struct Courier {
    options: DeliveryOptions,
    observer: Arc<dyn DeliveryObserver>,
    inbox: UnboundedReceiver<Finished>,
    spool: Spool,
    /// When the end is no longer put off.
    farewell: Option<Instant>,
    /// Why the last attempt failed.
    failing: Option<String>,
}

impl Courier {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        self.settle(0);
        loop {
            let Some(file) = self.spool.take() else {
                if self.farewell.is_some() {
                    return;
                }
                let file = self.inbox.recv().await;
                self.receive(file, 0);
                continue;
            };
            match self.attempt(&file).await {
                Ok(()) => {
                    self.remove(&file);
                    self.told(None);
                    pause = FIRST_PAUSE;
                }
                Err(Attempt::Gone) => {}
                Err(Attempt::Failed(error)) => {
                    self.spool.put_back(file);
                    if self.failing.as_ref() != Some(&error) {
                        tracing::error!(
                            to = self.options.store.url(),
                            files = self.spool.len(),
                            error,
                            mend = mend(&error),
                            "a file cannot be delivered; it waits, and is tried again"
                        );
                    }
                    self.told(Some(error));
                    if self.farewell.is_some() {
                        tracing::warn!(
                            files = self.spool.len(),
                            "files are not delivered; the next start delivers them"
                        );
                        return;
                    }
                    self.rest(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
            self.settle(0);
        }
    }

    /// Tries to deliver a file, and takes in what is finished meanwhile.
    async fn attempt(&mut self, file: &Waiting) -> Result<(), Attempt> {
        let store = self.options.store.clone();
        let below = file.path.strip_prefix(&self.options.directory).unwrap_or(&file.path).to_path_buf();
        let mut put = pin!(store.put(&file.path, &below));
        let end = Instant::now() + patience(file.bytes);
        loop {
            let end = self.farewell.map_or(end, |farewell| farewell.min(end));
            tokio::select! {
                result = &mut put => return match result {
                    Ok(()) => Ok(()),
                    Err(PutError::File(error)) if error.kind() == io::ErrorKind::NotFound => Err(Attempt::Gone),
                    Err(error) => Err(Attempt::Failed(error.to_string())),
                },
                finished = self.inbox.recv(), if self.farewell.is_none() => self.receive(finished, file.bytes),
                () = sleep_until(end) => return Err(Attempt::Failed("it takes too long".into())),
            }
        }
    }

    /// Waits before the next attempt, and takes in what is finished meanwhile. The end cuts it short.
    async fn rest(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        while self.farewell.is_none() {
            self.settle(0);
            tokio::select! {
                finished = self.inbox.recv() => self.receive(finished, 0),
                () = sleep_until(end) => return,
            }
        }
    }

    /// A file that is finished, or the end.
    fn receive(&mut self, finished: Option<Finished>, on_the_way: u64) {
        match finished {
            Some(file) => {
                self.spool.add(file);
                self.settle(on_the_way);
            }
            None => self.farewell = Some(Instant::now() + FAREWELL),
        }
    }

    /// Drops the oldest while more wait than may, and tells how many do.
    fn settle(&mut self, on_the_way: u64) {
        while self.spool.bytes() + on_the_way > self.options.spool_size
            && let Some(file) = self.spool.take()
        {
            if unlink(&file.path) {
                tracing::error!(
                    file = %file.path.display(),
                    "too many files wait to be delivered: the oldest is dropped"
                );
                self.observer.dropped(file.counts.as_ref().map(|(output, counts)| (*output, counts)));
            }
        }
        let on_its_way = u64::from(on_the_way > 0);
        self.observer.waiting(self.spool.len() as u64 + on_its_way, self.spool.bytes() + on_the_way);
    }

    fn remove(&self, file: &Waiting) {
        self.observer.delivered(file.bytes);
        unlink(&file.path);
    }

    fn told(&mut self, failing: Option<String>) {
        if self.failing.is_some() && failing.is_none() {
            tracing::info!(to = self.options.store.url(), "files are delivered again");
        }
        self.observer.delivery_failing(failing.is_some());
        self.failing = failing;
    }
}

/// What helps against an error that does not say so itself.
fn mend(error: &str) -> Option<&'static str> {
    if error.contains("169.254.") {
        Some("give the host or the task a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    } else if error.contains("LOCATION") {
        Some("is --region the bucket's?")
    } else {
        None
    }
}

/// What came of an attempt that did not deliver.
enum Attempt {
    /// Somebody removed the file.
    Gone,
    /// It is to be tried again.
    Failed(String),
}

/// Removes a file that is not needed any more. One that stays is delivered again by the next run, as the same object.
fn unlink(path: &Path) -> bool {
    Note::of(path).remove();
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a file cannot be removed");
            false
        }
    }
}
