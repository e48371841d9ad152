//! The queue of batches of one output.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    counts::Counts,
    observer::{ObserverRef, Recovered, SinkLoss, SinkObserver},
    output::Output,
};
use crate::record::{Batch, Context};

/// Batches that may wait while one is written. A batch of a million flows takes 95 MB, shared by
/// all outputs.
const WAITING: usize = 2;

/// A queue of batches that knows which records are settled, that is, reported as written or lost.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The first batch is being written.
    batches: VecDeque<Arc<Batch>>,
    /// Settled records of the first batch.
    settled: Counts,
    /// No more batches follow.
    closed: bool,
    /// The reader has ended.
    abandoned: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a batch and returns true, or returns false if the queue is full.
    pub(super) fn offer(&self, batch: &Arc<Batch>) -> bool {
        let mut state = self.state();
        let has_room = !state.abandoned && state.batches.len() <= WAITING;
        if has_room {
            state.batches.push_back(Arc::clone(batch));
            self.changed.notify_all();
        }
        has_room
    }

    /// Waits for room and appends a batch. Drops the batch if the reader has ended.
    pub(super) fn send(&self, batch: &Arc<Batch>) {
        let mut state = self.state();
        while !state.abandoned && state.batches.len() > WAITING {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if !state.abandoned {
            state.batches.push_back(Arc::clone(batch));
            self.changed.notify_all();
        }
    }

    /// Appends the last batch, even to a full queue, and closes the queue.
    pub(super) fn finish(&self, last: &Arc<Batch>) {
        self.state().batches.push_back(Arc::clone(last));
        self.close();
    }

    /// Closes the queue: no more batches follow.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits for the next batch. It stays in the queue until [`done`](Self::done). `None` after the
    /// last.
    pub(super) fn next(&self) -> Option<Arc<Batch>> {
        let mut state = self.state();
        loop {
            if let Some(batch) = state.batches.front() {
                return Some(Arc::clone(batch));
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes the first batch, all of whose records are settled.
    pub(super) fn done(&self) {
        let mut state = self.state();
        let batch = state.batches.pop_front();
        state.settled = Counts::default();
        drop(state);
        // Outside the lock, because freeing a million flows takes a while.
        drop(batch);
        self.changed.notify_all();
    }

    /// Marks the reader as ended, and wakes all waiting senders.
    pub(super) fn abandon(&self) {
        self.state().abandoned = true;
        self.changed.notify_all();
    }

    /// The records in the queue that are not settled.
    pub(super) fn unsettled(&self, context: &Context) -> Counts {
        let state = self.state();
        let mut counts = Counts::default();
        for batch in &state.batches {
            counts += Counts::of(batch.records(context).map(|(_, record)| record));
        }
        counts - state.settled
    }
}

/// Passes all reports to the observer, and counts settled records in the queue.
pub(super) struct QueueObserver {
    pub(super) queue: Arc<Queue>,
    pub(super) observer: ObserverRef,
}

impl SinkObserver for QueueObserver {
    fn written(&self, output: Output, counts: &Counts) {
        self.observer.written(output, counts);
    }

    fn lost(&self, output: Output, counts: &Counts, reason: SinkLoss) {
        self.observer.lost(output, counts, reason);
    }

    fn settled(&self, counts: &Counts) {
        self.queue.state().settled += *counts;
    }

    fn left_out(&self, counts: &Counts) {
        self.observer.left_out(counts);
    }

    fn failing(&self, output: Output, failing: bool) {
        self.observer.failing(output, failing);
    }

    fn finished(&self, output: Output) {
        self.observer.finished(output);
    }

    fn recovered(&self, how: Recovered) {
        self.observer.recovered(how);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::record::{Format, examples};

    fn counts(context: &Context) -> Counts {
        Counts::of(examples::batch().records(context).map(|(_, record)| record))
    }

    #[test]
    fn unsettled_records_are_the_queued_minus_the_settled_ones() {
        let (queue, context) = (Arc::new(Queue::default()), Context::new(Format::v2()));
        let (one, batch) = (counts(&context), Arc::new(examples::batch()));
        let mut two = one;
        two += one;
        assert!(queue.offer(&batch) && queue.offer(&batch));
        assert_eq!(queue.unsettled(&context), two);
        assert!(queue.next().is_some());
        queue.state().settled += one;
        assert_eq!(queue.unsettled(&context), one);
        queue.done();
        assert_eq!(queue.unsettled(&context), one);
        queue.finish(&batch);
        assert_eq!(queue.unsettled(&context), two);
        for _ in 0..2 {
            assert!(queue.next().is_some());
            queue.state().settled += one;
            queue.done();
        }
        assert!(queue.next().is_none());
        assert_eq!(queue.unsettled(&context), Counts::default());
    }

    #[test]
    fn a_full_queue_rejects_batches_and_an_abandoned_queue_blocks_no_sender() {
        let (queue, batch) = (Arc::new(Queue::default()), Arc::new(examples::batch()));
        let taken = (0..10).filter(|_| queue.offer(&batch)).count();
        assert_eq!(taken, WAITING + 1);
        let waits = thread::spawn({
            let (queue, batch) = (Arc::clone(&queue), Arc::clone(&batch));
            move || queue.send(&batch)
        });
        queue.abandon();
        waits.join().unwrap();
        assert!(!queue.offer(&batch));
    }
}
