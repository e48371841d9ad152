//! Uploads of waiting files, one at a time, in rounds.
//!
//! A failure concerns one file, all files, or a moment ([`Scope`]). A failure of one file is
//! certain only after the store accepts another file: then the file is set aside. If the store
//! refuses every file, its configuration is wrong, and files wait as if the store were down.

use std::{fs, io, path::Path, pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc::UnboundedReceiver, watch},
    time::{Instant, sleep_until},
};

use super::{
    failure::{Cause, Failure, Scope},
    inbox::Finished,
    observer::DeliveryObserver,
    options::DeliveryOptions,
    put_error::PutError,
    spool::{Spool, Waiting, finished_name},
    upload::UploadIds,
};
use crate::{log::Logged, worker::Deadline};

/// Pauses after a failure, doubled from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Consecutive refusals after which the store is taken to refuse all files for now.
const REFUSALS: u32 = 8;

/// Time limit of an attempt: 10 seconds, and 1 second for each 256 KiB.
const fn patience(bytes: u64) -> Duration {
    Duration::from_secs(10 + bytes / (256 << 10))
}

/// State of the delivery thread.
pub(super) struct Rounds {
    options: DeliveryOptions,
    observer: Arc<dyn DeliveryObserver>,
    inbox: UnboundedReceiver<Finished>,
    stop: watch::Receiver<Option<Deadline>>,
    spool: Spool,
    /// No more files follow. Each waiting file is tried once more.
    ending: bool,
    /// The failure that the log reported last.
    failing: Logged<Cause>,
    /// Number of files delivered.
    taken: u64,
    /// Refusals since the last delivered file or the last pause.
    refusals: u32,
    pause: Duration,
}

/// Result of an attempt that did not deliver the file.
enum Attempt {
    /// The file was removed by another process.
    Gone,
    Failed(Failure),
}

impl Rounds {
    pub(super) fn new(
        options: DeliveryOptions,
        observer: Arc<dyn DeliveryObserver>,
        inbox: UnboundedReceiver<Finished>,
        stop: watch::Receiver<Option<Deadline>>,
        spool: Spool,
    ) -> Self {
        Self {
            options,
            observer,
            inbox,
            stop,
            spool,
            ending: false,
            failing: Logged::default(),
            taken: 0,
            refusals: 0,
            pause: FIRST_PAUSE,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.settle(0);
            let before = self.taken;
            let failure = self.round().await;
            let some_wait = self.spool.waiting().0 > 0;
            let failure = failure.filter(|_| some_wait);
            if self.ending {
                if let Some(failure) = failure {
                    self.report(&failure);
                }
                return self.leave();
            }
            match failure {
                // The store accepted other files in this round: refused files are tried once more,
                // then set aside.
                Some(failure) if failure.scope() == Scope::File && self.taken > before => {}
                Some(failure) => self.rest(&failure).await,
                None if some_wait => {}
                None => {
                    let finished = self.next().await;
                    self.receive(finished, 0);
                }
            }
        }
    }

    /// Tries each waiting file once, or until the store fails. Returns the last failure.
    async fn round(&mut self) -> Option<Failure> {
        let mut last = None;
        while let Some(file) = self.spool.take() {
            match self.attempt(&file).await {
                Ok(()) => self.delivered(&file),
                Err(Attempt::Gone) => {}
                Err(Attempt::Failed(failure)) => {
                    self.failed(file, &failure);
                    let goes_on = failure.scope() == Scope::File && self.refusals < REFUSALS;
                    last = Some(failure);
                    if !goes_on {
                        break;
                    }
                }
            }
            self.settle(0);
        }
        self.settle(0);
        last
    }

    /// Tries to deliver a file, and receives finished files meanwhile.
    async fn attempt(&mut self, file: &Waiting) -> Result<(), Attempt> {
        let store = self.options.store.clone();
        let below =
            file.path.strip_prefix(&self.options.directory).unwrap_or(&file.path).to_path_buf();
        let mut put = pin!(store.put(&file.path, &below));
        let end = Instant::now() + patience(file.bytes);
        let mut over = pin!(over(self.stop.clone()));
        loop {
            tokio::select! {
                result = &mut put => return match result {
                    Ok(()) => Ok(()),
                    Err(PutError::File(error)) if error.kind() == io::ErrorKind::NotFound => Err(Attempt::Gone),
                    Err(PutError::File(error)) => Err(Attempt::Failed(Failure::of_file(&error))),
                    Err(PutError::Store(error)) => Err(Attempt::Failed(Failure::of_store(&error))),
                },
                finished = self.next(), if !self.ending => self.receive(finished, file.bytes),
                () = &mut over => return Err(Attempt::Failed(Failure::slow())),
                () = sleep_until(end) => return Err(Attempt::Failed(Failure::slow())),
            }
        }
    }

    fn delivered(&mut self, file: &Waiting) {
        self.observer.delivered(file.bytes);
        unlink(&file.path);
        if self.failing.clear() {
            tracing::info!(to = self.options.store.url(), "files are delivered again");
        }
        self.observer.delivery_failing(false);
        self.taken += 1;
        self.refusals = 0;
        self.pause = FIRST_PAUSE;
    }

    /// Keeps a file for another attempt, or sets it aside.
    fn failed(&mut self, mut file: Waiting, failure: &Failure) {
        self.observer.delivery_failed();
        if failure.scope() != Scope::File {
            self.spool.put_back(file);
            return;
        }
        self.refusals += 1;
        let first = *file.refused_at.get_or_insert(self.taken);
        if first == self.taken {
            // The store may refuse every file.
            self.spool.put_back(file);
            return;
        }
        let name = file.path.clone();
        match self.spool.set_aside(file) {
            Ok(aside) => {
                tracing::error!(
                    file = %aside.path.display(),
                    error = failure.text,
                    mend = failure.advice(),
                    "a file cannot be delivered: the store refuses it and takes others; it is set aside, and the next \
                     start tries again"
                );
                self.observer.refused(failure.refusal());
            }
            Err(error) => {
                tracing::error!(file = %name.display(), %error, "a refused file cannot be renamed");
            }
        }
    }

    /// Logs the reason for waiting files.
    fn report(&mut self, failure: &Failure) {
        if self.failing.is_new(failure.cause.clone()) {
            tracing::error!(
                to = self.options.store.url(),
                files = self.spool.waiting().0,
                error = failure.text,
                mend = failure.advice(),
                "files cannot be delivered; they wait, and are tried again"
            );
        }
        self.observer.delivery_failing(true);
    }

    /// Pauses before the next round, and receives finished files meanwhile. A stop ends the pause.
    async fn rest(&mut self, failure: &Failure) {
        self.report(failure);
        self.refusals = 0;
        let end = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        while !self.ending {
            tokio::select! {
                finished = self.next() => self.receive(finished, 0),
                () = sleep_until(end) => return,
            }
        }
    }

    /// Waits for a finished file; `None` if no more follow.
    async fn next(&mut self) -> Option<Finished> {
        let Self { inbox, stop, .. } = self;
        tokio::select! {
            biased;
            file = inbox.recv() => file,
            // The sender lives as long as the delivery can be stopped.
            _ = stop.wait_for(Option::is_some) => None,
        }
    }

    /// Adds a finished file to the spool, or begins the end.
    fn receive(&mut self, finished: Option<Finished>, on_the_way: u64) {
        match finished {
            Some(file) => {
                self.spool.add(file);
                self.settle(on_the_way);
            }
            None => self.ending = true,
        }
    }

    /// Logs the number of files left for the next run.
    fn leave(&self) {
        let (files, bytes) = self.spool.waiting();
        if files > 0 {
            tracing::warn!(files, bytes, "files are not delivered; the next start delivers them");
        }
    }

    /// Drops the oldest files beyond the size limit, and reports the number of waiting files.
    fn settle(&mut self, on_the_way: u64) {
        while self.spool.waiting().1 + self.spool.aside().1 + on_the_way > self.options.spool_size
            && let Some(file) = self.spool.drop_one()
        {
            if unlink(&file.path) {
                tracing::error!(
                    file = %file.path.display(),
                    "too many files wait to be delivered: the oldest is dropped"
                );
                self.observer
                    .dropped(file.counts.as_ref().map(|(output, counts)| (*output, counts)));
            }
        }
        let (files, bytes) = self.spool.waiting();
        let on_its_way = u64::from(on_the_way > 0);
        self.observer.waiting((files + on_its_way, bytes + on_the_way), self.spool.aside());
    }
}

/// Completes at the deadline of a stop.
async fn over(mut stop: watch::Receiver<Option<Deadline>>) {
    let deadline = stop.wait_for(Option::is_some).await.map(|deadline| deadline.clone());
    match deadline {
        Ok(Some(deadline)) => deadline.over().await,
        // The sender is gone: no stop can follow.
        _ => std::future::pending().await,
    }
}

/// Removes a file. If that fails, the next run delivers it again, as the same object.
fn unlink(path: &Path) -> bool {
    UploadIds::of(&finished_name(path).unwrap_or_else(|| path.to_path_buf())).remove();
    match fs::remove_file(path) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "a file cannot be removed");
            false
        }
    }
}
