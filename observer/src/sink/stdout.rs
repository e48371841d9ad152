use std::{
    io::{self, Write},
    sync::Arc,
};

use super::{
    counts::Counts,
    lines::UNIT,
    observer::{ObserverRef, SinkLoss},
    output::{CloseError, Output, Sink},
};
use crate::record::{Batch, Context, TextLines};

/// The output of text without a header to standard output, for log shippers.
#[derive(Debug)]
pub(super) struct StdoutSink {
    context: Arc<Context>,
    observer: ObserverRef,
    failing: bool,
}

impl StdoutSink {
    pub(super) const fn new(context: Arc<Context>, observer: ObserverRef) -> Self {
        Self { context, observer, failing: false }
    }

    fn print(&self, lines: &mut Vec<u8>, counts: &mut Counts) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let result = stdout.write_all(lines).and_then(|()| stdout.flush());
        match result {
            Ok(()) => self.observer.written(Output::Stdout, counts),
            Err(_) => self.observer.lost(Output::Stdout, counts, SinkLoss::WriteError),
        }
        self.observer.settled(counts);
        lines.clear();
        *counts = Counts::default();
        result
    }

    fn print_all(&self, batch: &Batch) -> io::Result<()> {
        let (mut text, mut lines, mut counts) =
            (TextLines::default(), Vec::new(), Counts::default());
        let mut result = Ok(());
        for (interface, record) in batch.records(&self.context) {
            text.write(interface, &record, &mut lines);
            counts.add(&record);
            if lines.len() >= UNIT {
                result = result.and(self.print(&mut lines, &mut counts));
            }
        }
        result.and(self.print(&mut lines, &mut counts))
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, batch: &Batch) {
        let result = self.print_all(batch);
        if result.is_err() != self.failing {
            self.failing = result.is_err();
            self.observer.failing(Output::Stdout, self.failing);
            if let Err(error) = result {
                tracing::error!(output = Output::Stdout.as_str(), %error, "records cannot be written");
            }
        }
    }

    fn close(&mut self) -> Result<(), CloseError> {
        if self.failing { Err(CloseError::Stdout) } else { Ok(()) }
    }
}
