use std::io::{self, Write};

use super::Sink;
use crate::record::{Batch, Format, write_text};

/// Text records without a header on standard output, for log shippers: what CloudWatch Logs would hold.
#[derive(Debug)]
pub struct StdoutSink {
    format: Format,
    buffer: Vec<u8>,
}

/// Bytes that are collected before they are written.
const CHUNK: usize = 64 << 10;

impl StdoutSink {
    /// A sink that writes these fields.
    pub fn new(format: Format) -> Self {
        Self { format, buffer: Vec::with_capacity(CHUNK * 2) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        let result = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
        result
    }
}

impl Sink for StdoutSink {
    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        for record in batch.records() {
            write_text(&self.format, &record, &mut self.buffer);
            if self.buffer.len() >= CHUNK {
                self.flush()?;
            }
        }
        self.flush()
    }

    fn close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn name(&self) -> String {
        "stdout".into()
    }
}
