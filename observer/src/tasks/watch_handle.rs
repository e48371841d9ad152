//! The handle that ends the watch, and the watch's output.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use nix::sys::eventfd::EventFd;

use super::WatchUpdate;
use crate::worker::{Deadline, Worker, WorkerError};

/// Handle of the watch. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchHandle {
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    output: Output,
    thread: Option<Worker<()>>,
}

impl WatchHandle {
    /// A handle of the thread that ends when `stop` is set and `wake` is written.
    pub(super) fn new(
        stop: Arc<AtomicBool>,
        wake: Arc<EventFd>,
        output: Output,
        thread: Worker<()>,
    ) -> Self {
        Self { stop, wake, output, thread: Some(thread) }
    }

    /// Ends the watch, and waits for its thread until the deadline.
    pub fn stop(mut self, deadline: &Deadline) -> Result<(), WorkerError> {
        let thread = self.thread.take();
        drop(self);
        thread.map_or(Ok(()), |thread| thread.join(deadline))
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.write(1);
        self.output.close();
    }
}

/// The receiver of the watch's messages. Once closed it receives nothing more, even if the watching
/// thread hangs.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Option<Receive>>>);

type Receive = Box<dyn Fn(WatchUpdate) + Send>;

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Output {
    /// An output that calls `receive` with each message.
    pub(super) fn new(receive: impl Fn(WatchUpdate) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Some(Box::new(receive)))))
    }

    /// Passes on a message, unless the output is closed.
    pub(super) fn send(&self, message: WatchUpdate) {
        if let Some(receive) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            receive(message);
        }
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Closes an output when dropped: also when the thread panics.
pub(super) struct CloseOnDrop(pub(super) Output);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
    }
}
