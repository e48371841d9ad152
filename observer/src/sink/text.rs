use std::{
    io, mem,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{
    counts::Counts,
    files::Files,
    gzip::Gzip,
    lines::{Lines, UNIT, gather},
    observer::ObserverRef,
    options::SinkOptions,
    output::{CloseError, Output, Sink},
    slot::Slot,
};
use crate::{
    record::{Batch, BatchId, Context, TextLines, write_header},
    worker::{Deadline, Worker},
};

/// The output of text to compressed files. A second thread compresses lines while the next ones are
/// rendered.
#[derive(Debug)]
pub(super) struct TextSink {
    context: Arc<Context>,
    work: Option<SyncSender<Work>>,
    /// Written buffers, for reuse.
    spare: Receiver<Lines>,
    thread: Option<Worker<Result<(), CloseError>>>,
}

/// A job for the compressing thread.
#[derive(Debug)]
enum Work {
    Append(Slot, Lines, Counts),
    /// Ends a batch, and finishes the files whose slots end at or before this time. Drops the sender
    /// when all earlier jobs are done.
    End(Option<BatchId>, i64, SyncSender<()>),
}

/// Units that may wait to be compressed.
const WAITING: usize = 4;

impl TextSink {
    pub(super) fn start(options: &SinkOptions, observer: ObserverRef) -> io::Result<Self> {
        let mut files = Files::new(Output::Text, options, observer);
        let mut head = Vec::new();
        write_header(&options.context.format, &mut head);
        let mut gzip = Gzip::new(head);
        let (work, todo) = sync_channel(WAITING);
        let (written, spare) = sync_channel::<Lines>(WAITING);
        let thread = Worker::spawn("gzip", move || {
            for work in todo {
                match work {
                    Work::Append(slot, lines, counts) => {
                        files.append(&mut gzip, &slot, lines.as_slice(), &counts);
                        // If the channel is full, the buffer is freed.
                        let _ = written.try_send(lines);
                    }
                    Work::End(id, time, done) => {
                        files.end_batch(id, time);
                        drop(done);
                    }
                }
            }
            files.close()
        })?;
        Ok(Self {
            context: Arc::clone(&options.context),
            work: Some(work),
            spare,
            thread: Some(thread),
        })
    }
}

impl Sink for TextSink {
    fn write(&mut self, batch: &Batch) {
        // The thread ends when this sender is dropped.
        let Some(work) = &self.work else { return };
        let mut text = TextLines::default();
        gather(
            batch,
            &self.context,
            UNIT,
            |interface, record, out| text.write(interface, record, out),
            |slot, unit, counts| {
                let other = self.spare.try_recv().unwrap_or_else(|_| Lines::new(UNIT));
                let _ = work.send(Work::Append(slot.clone(), mem::replace(unit, other), *counts));
                // The offset does not matter: the lines are compressed into another buffer.
                0
            },
        );
        let (done, all_done) = sync_channel(1);
        let _ = work.send(Work::End(batch.id, batch.window.end, done));
        // Returns when the thread drops the sender: all records of the batch are settled.
        let _ = all_done.recv();
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.work = None;
        // No deadline here, because the caller's thread has one.
        match self.thread.take() {
            Some(thread) => thread.join(&Deadline::never())?,
            None => Ok(()),
        }
    }
}
