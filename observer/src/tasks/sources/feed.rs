//! The channel from a source to the watch: views and health.

use std::{
    fmt,
    sync::{Arc, mpsc::Sender},
    time::Instant,
};

use nix::sys::eventfd::EventFd;

use crate::tasks::{Attribute, Source, view::View};

/// Health of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No request has completed yet.
    #[default]
    Starting,
    /// The last request succeeded.
    Up,
    /// The last request failed, for this reason.
    Down(Box<str>),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not asked yet"),
            Self::Up => f.write_str("up"),
            Self::Down(reason) => f.write_str(reason),
        }
    }
}

/// Receives events of the sources, for metrics.
pub trait SourceObserver: fmt::Debug + Send + Sync {
    /// A request to a source completed; `answered` is false if it failed.
    fn asked(&self, source: Source, answered: bool);
    /// The health of a source changed.
    fn up(&self, source: Source, up: bool);
    /// A value of a source was rejected, because a source of higher priority gives another one.
    fn conflict(&self, source: Source, attribute: Attribute);
}

/// A message from a source.
#[derive(Debug)]
pub(in crate::tasks) enum SourceUpdate {
    /// The whole current view, and the time at which the request for it began.
    View(Box<View>, Instant),
    /// The source's health.
    State(State),
}

/// A source's sender of updates to the watch.
#[derive(Clone, Debug)]
pub(in crate::tasks) struct Feed {
    source: Source,
    updates: Sender<(Source, SourceUpdate)>,
    wake: Arc<EventFd>,
    observer: Arc<dyn SourceObserver>,
}

impl Feed {
    /// A feed into `updates`, whose receiver waits for `wake`.
    pub(in crate::tasks) fn new(
        source: Source,
        updates: &Sender<(Source, SourceUpdate)>,
        wake: &Arc<EventFd>,
        observer: &Arc<dyn SourceObserver>,
    ) -> Self {
        Self {
            source,
            updates: updates.clone(),
            wake: Arc::clone(wake),
            observer: Arc::clone(observer),
        }
    }

    fn send(&self, update: SourceUpdate) {
        // The receiver is gone only while the daemon stops.
        let _ = self.updates.send((self.source, update));
        let _ = self.wake.write(1);
    }

    /// Sends a view that was requested at `asked`.
    pub(super) fn view(&self, view: View, asked: Instant) {
        self.send(SourceUpdate::View(Box::new(view), asked));
    }

    /// Reports that the source answers.
    pub(super) fn up(&self) {
        self.send(SourceUpdate::State(State::Up));
    }

    /// Reports that the source does not answer.
    pub(super) fn down(&self, reason: impl fmt::Display) {
        self.send(SourceUpdate::State(State::Down(reason.to_string().into())));
    }

    /// Counts a request.
    pub(super) fn asked(&self, answered: bool) {
        self.observer.asked(self.source, answered);
    }

    /// Counts a request by its result, and returns the result.
    pub(super) fn heard<T, E>(&self, answer: Result<T, E>) -> Result<T, E> {
        self.asked(answer.is_ok());
        answer
    }
}
