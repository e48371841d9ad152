//! One thread and one queue for each output.

use std::{io, sync::Arc};

use super::{
    counts::Counts,
    json::JsonSink,
    observer::{ObserverRef, SinkLoss, SinkObserver},
    options::SinkOptions,
    output::{CloseError, Output, Sink},
    parquet::ParquetSink,
    queue::{Queue, QueueObserver},
    stdout::StdoutSink,
    text::TextSink,
};
use crate::{
    record::{Batch, Context},
    worker::{Deadline, Worker, WorkerError},
};

/// Errors of closing the outputs, one for each output that failed.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|(output, error)| format!("{}: {error}", output.as_str())).collect::<Vec<_>>().join("; "))]
pub struct SinksError(Vec<(Output, CloseError)>);

/// The running outputs. Each has a thread and a queue.
#[derive(Debug)]
pub struct Sinks {
    lanes: Vec<Lane>,
    context: Arc<Context>,
    observer: ObserverRef,
}

/// The thread and the queue of one output.
#[derive(Debug)]
struct Lane {
    output: Output,
    queue: Arc<Queue>,
    thread: Worker<Result<(), CloseError>>,
}

impl Lane {
    /// Starts the thread of an output. With `reports_excluded` it also reports the records that the
    /// user's settings exclude.
    fn start(
        output: Output,
        reports_excluded: bool,
        options: &SinkOptions,
        observer: &ObserverRef,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let settled = QueueObserver { queue: Arc::clone(&queue), observer: observer.clone() };
        let mut sink = options.open(output, &ObserverRef::new(Arc::new(settled)))?;
        let left_out = (reports_excluded && options.context.leaves_out())
            .then(|| (Arc::clone(&options.context), observer.clone()));
        let batches = AbandonOnDrop(Arc::clone(&queue));
        let name = match output {
            Output::Jsonl => "sink-jsonl",
            Output::Text => "sink-text",
            Output::Parquet => "sink-parquet",
            Output::Stdout => "sink-stdout",
        };
        let thread = Worker::spawn(name, move || {
            let batches = batches;
            while let Some(batch) = batches.0.next() {
                if let Some((context, observer)) = &left_out {
                    observer.left_out(&Counts::of(batch.left_out(context)));
                }
                sink.write(&batch);
                drop(batch);
                batches.0.done();
            }
            sink.close()
        })?;
        Ok(Self { output, queue, thread })
    }
}

/// Marks the queue as abandoned when the thread ends for any reason, so that no sender waits
/// forever.
struct AbandonOnDrop(Arc<Queue>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Sinks {
    /// Starts a thread for each output.
    pub fn start(options: &SinkOptions, observer: Arc<dyn SinkObserver>) -> io::Result<Self> {
        let observer = ObserverRef::new(observer);
        let outputs = options.outputs.iter().enumerate();
        // All outputs exclude the same records, so only the first reports them.
        let lanes =
            outputs.map(|(number, output)| Lane::start(*output, number == 0, options, &observer));
        let lanes = lanes.collect::<io::Result<_>>()?;
        Ok(Self { lanes, context: Arc::clone(&options.context), observer })
    }

    /// Queues a batch without waiting. Outputs with a full queue lose it.
    pub fn offer(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for lane in self.lanes.iter().filter(|lane| !lane.queue.offer(&batch)) {
            self.drop_batch(lane.output, &batch);
        }
    }

    /// Queues a batch of an earlier run for the outputs for which `wanted` is true.
    pub fn offer_to(&self, batch: Batch, wanted: impl Fn(Output) -> bool) {
        let batch = Arc::new(batch);
        for lane in self.lanes.iter().filter(|lane| wanted(lane.output)) {
            // At the start all queues are empty, but there may be more windows than they hold.
            lane.queue.send(&batch);
        }
    }

    fn drop_batch(&self, output: Output, batch: &Batch) {
        let counts = Counts::of(batch.records(&self.context).map(|(_, record)| record));
        tracing::error!(
            output = output.as_str(),
            records = counts.records(),
            "an output is too slow: the records of a window are dropped"
        );
        self.observer.lost(output, &counts, SinkLoss::QueueFull);
    }

    /// Queues a batch for every output. Waits for room.
    pub fn send(&self, batch: Batch) {
        let batch = Arc::new(batch);
        for lane in &self.lanes {
            lane.queue.send(&batch);
        }
    }

    /// Queues the last batch, and closes the outputs.
    pub fn finish(self, last: Batch, deadline: &Deadline) -> Result<(), SinksError> {
        let last = Arc::new(last);
        for lane in &self.lanes {
            lane.queue.finish(&last);
        }
        drop(last);
        self.close(deadline)
    }

    /// Waits until all queues are written, and closes the outputs. Records that an output has not
    /// written by the deadline are lost.
    pub fn close(self, deadline: &Deadline) -> Result<(), SinksError> {
        let Self { lanes, context, observer } = self;
        // Closed together, so that a slow output does not delay the others.
        for lane in &lanes {
            lane.queue.close();
        }
        let mut undone = Vec::new();
        for Lane { output, queue, thread } in lanes {
            let error = match thread.join(deadline) {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error,
                Err(error) => {
                    queue.abandon();
                    let lost = queue.unsettled(&context);
                    give_up(output, &lost, &error, &observer);
                    if lost == Counts::default() {
                        error.into()
                    } else {
                        CloseError::Lost { lost, error }
                    }
                }
            };
            undone.push((output, error));
        }
        if undone.is_empty() { Ok(()) } else { Err(SinksError(undone)) }
    }
}

/// Reports the records that an output did not write as lost.
fn give_up(output: Output, lost: &Counts, error: &WorkerError, observer: &ObserverRef) {
    if *lost == Counts::default() {
        return;
    }
    tracing::error!(
        output = output.as_str(),
        records = lost.records(),
        packets = lost.packets,
        bytes = lost.bytes,
        %error,
        "an output did not take its last records: they are lost"
    );
    let late = matches!(error, WorkerError::Late(_));
    observer.lost(output, lost, if late { SinkLoss::StopTimeout } else { SinkLoss::WriteError });
}

impl SinkOptions {
    /// Opens the sink of one output, without a queue and a thread.
    pub fn open(&self, output: Output, observer: &ObserverRef) -> io::Result<Box<dyn Sink>> {
        Ok(match output {
            Output::Jsonl => Box::new(JsonSink::new(self, observer.clone())),
            Output::Text => Box::new(TextSink::start(self, observer.clone())?),
            Output::Parquet => Box::new(ParquetSink::new(self, observer.clone())?),
            Output::Stdout => {
                Box::new(StdoutSink::new(Arc::clone(&self.context), observer.clone()))
            }
        })
    }
}
