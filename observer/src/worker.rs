//! Threads that can be joined with a deadline.
//!
//! A thread that is blocked in the kernel (on a pipe without reader, on a hanging disk) cannot be
//! ended by another thread. So a join waits until a deadline at most. The end of the process ends
//! the thread.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Interval at which a wait checks whether its deadline has moved.
const STEP: Duration = Duration::from_millis(50);

/// Deadline of a shutdown. Clones and derived deadlines share [`expire`](Self::expire).
#[derive(Clone, Debug)]
pub struct Deadline {
    start: Instant,
    /// `None`: no deadline.
    limit: Option<Duration>,
    /// Time added to the limit, and to an early expiry.
    grace: Duration,
    expired: Arc<OnceLock<Instant>>,
}

impl Deadline {
    /// A deadline that passes only by [`expire`](Self::expire).
    pub fn never() -> Self {
        Self { start: Instant::now(), limit: None, grace: Duration::ZERO, expired: Arc::default() }
    }

    /// A deadline after this time from now.
    pub fn after(limit: Duration) -> Self {
        Self { limit: Some(limit), ..Self::never() }
    }

    /// Deadline of a step that may use this share of the whole time.
    #[must_use]
    pub fn percent(&self, percent: u32) -> Self {
        Self { limit: self.limit.map(|limit| limit * percent / 100), ..self.clone() }
    }

    /// A deadline that is later by this time, also after an early expiry.
    #[must_use]
    pub fn later(&self, by: Duration) -> Self {
        Self { grace: self.grace + by, ..self.clone() }
    }

    /// Moves the deadline to now, for all clones and derived deadlines.
    pub fn expire(&self) {
        // A second call changes nothing.
        let _ = self.expired.set(Instant::now());
    }

    /// Remaining time; [`Duration::MAX`] if there is no deadline.
    pub fn left(&self) -> Duration {
        let left =
            |limit: Duration, since: Instant| (limit + self.grace).saturating_sub(since.elapsed());
        let early =
            self.expired.get().map_or(Duration::MAX, |expired| left(Duration::ZERO, *expired));
        self.limit.map_or(Duration::MAX, |limit| left(limit, self.start)).min(early)
    }

    /// Sleeps until the deadline has passed.
    pub fn sleep(&self) {
        while !self.left().is_zero() {
            thread::sleep(self.left().min(STEP));
        }
    }

    /// Resolves when the deadline has passed.
    pub async fn over(&self) {
        while !self.left().is_zero() {
            tokio::time::sleep(self.left().min(STEP)).await;
        }
    }
}

/// Error of joining a thread.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkerError {
    /// The thread panicked.
    #[error("the thread {0} panicked")]
    Panicked(&'static str),
    /// The thread still runs.
    #[error("the thread {0} did not end in time")]
    Late(&'static str),
}

/// A thread that returns a result. Dropping the worker detaches the thread.
#[derive(Debug)]
pub struct Worker<T> {
    name: &'static str,
    thread: JoinHandle<()>,
    result: Receiver<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread with this name.
    pub fn spawn(
        name: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Self> {
        let (done, result) = sync_channel(1);
        let run = move || drop(done.send(work()));
        let thread = thread::Builder::new().name(name.into()).spawn(run)?;
        Ok(Self { name, thread, result })
    }

    /// True if the thread has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the result of the thread until a deadline.
    pub fn join(self, deadline: &Deadline) -> Result<T, WorkerError> {
        loop {
            let left = deadline.left();
            match self.result.recv_timeout(left.min(STEP)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(WorkerError::Panicked(self.name));
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                    return Err(WorkerError::Late(self.name));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// A thread with a queue of jobs. Dropping it closes the queue, and waits until the thread ends.
#[derive(Debug)]
pub struct QueueWorker<J> {
    jobs: Option<Sender<J>>,
    thread: Option<JoinHandle<()>>,
}

impl<J: Send + 'static> QueueWorker<J> {
    /// Starts a thread with this name. It is to end when its queue is closed.
    pub fn spawn(name: &str, work: impl FnOnce(Receiver<J>) + Send + 'static) -> io::Result<Self> {
        let (jobs, queue) = channel();
        let thread = thread::Builder::new().name(name.into()).spawn(move || work(queue))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }
}

impl<J> QueueWorker<J> {
    /// Queues a job. Returns false if the thread has ended.
    pub fn send(&self, job: J) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

impl<J> Drop for QueueWorker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_emptied_before_its_thread_ends() {
        let (done, results) = channel();
        let worker = QueueWorker::spawn("adds", move |queue: Receiver<u32>| {
            for number in queue {
                done.send(number + 1).unwrap();
            }
        });
        let worker = worker.unwrap();
        assert!((0..3).all(|number| worker.send(number)));
        drop(worker);
        assert_eq!(results.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_thread_that_ends_gives_its_result() {
        let worker = Worker::spawn("adds", || 1 + 1).unwrap();
        assert_eq!(worker.join(&Deadline::never()), Ok(2));
        let worker =
            Worker::spawn("panics", || assert!(std::hint::black_box(false), "on purpose")).unwrap();
        assert_eq!(worker.join(&Deadline::never()), Err(WorkerError::Panicked("panics")));
    }

    #[test]
    fn a_thread_that_is_stuck_is_waited_for_until_the_deadline() {
        let (_stuck, wait) = channel::<()>();
        let worker = Worker::spawn("stuck", move || wait.recv().is_ok()).unwrap();
        let start = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(200));
        assert_eq!(worker.join(&deadline), Err(WorkerError::Late("stuck")));
        assert!(start.elapsed() >= Duration::from_millis(200));
    }

    #[test]
    fn a_deadline_that_expires_ends_all_waits_that_share_it() {
        let (_stuck, wait) = channel::<()>();
        let worker = Worker::spawn("stuck", move || wait.recv().is_ok()).unwrap();
        let deadline = Deadline::after(Duration::from_hours(1));
        let part = deadline.percent(50).later(Duration::from_secs(1));
        assert!(part.left() > Duration::from_mins(29));
        deadline.expire();
        assert!(deadline.left().is_zero() && part.left() <= Duration::from_secs(1));
        assert_eq!(worker.join(&part), Err(WorkerError::Late("stuck")));
    }
}
