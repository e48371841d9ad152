use std::{
    io, mem,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use super::{
    CloseError, Counts, ObserverRef, Output, Sink, SinkOptions,
    files::Files,
    gzip::Gzip,
    lines::{Lines, UNIT, gather},
    place::Slot,
};
use crate::{
    record::{Batch, Context, TextLines, write_header},
    worker::{Deadline, Worker},
};

/// Files of AWS's text. A thread of its own compresses them, while the next lines are rendered.
#[derive(Debug)]
pub(super) struct TextSink {
    context: Arc<Context>,
    work: Option<SyncSender<Work>>,
    /// Buffers that are written.
    spare: Receiver<Lines>,
    thread: Option<Worker<Result<(), CloseError>>>,
}

/// What the thread is to do.
#[derive(Debug)]
enum Work {
    Append(Slot, Lines, Counts),
    /// No record of an earlier end comes. Dropping the other end says that all before this is done.
    FinishBefore(i64, SyncSender<()>),
}

/// Units that wait to be compressed.
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
                        // One that nobody waits for is dropped.
                        let _ = written.try_send(lines);
                    }
                    Work::FinishBefore(time, done) => {
                        files.finish_before(time);
                        drop(done);
                    }
                }
            }
            files.close()
        })?;
        Ok(Self { context: Arc::clone(&options.context), work: Some(work), spare, thread: Some(thread) })
    }
}

impl Sink for TextSink {
    fn write(&mut self, batch: &Batch) {
        // The thread ends only when this does.
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
                // They lie in the file as they are compressed.
                0
            },
        );
        let (done, all_done) = sync_channel(1);
        let _ = work.send(Work::FinishBefore(batch.window.end, done));
        // Nothing is sent: it is dropped when all of the batch is settled.
        let _ = all_done.recv();
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.work = None;
        // The thread that closes this has a deadline.
        match self.thread.take() {
            Some(thread) => thread.join(&Deadline::never())?,
            None => Ok(()),
        }
    }
}
