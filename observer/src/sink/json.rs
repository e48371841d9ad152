use std::{io, sync::Arc};

use super::{
    CloseError, ObserverRef, Output, Sink, SinkOptions,
    files::{Encoded, Encoding, Files},
    lines::gather,
};
use crate::record::{Batch, Context, JsonLines};

/// Files of JSON lines.
#[derive(Debug)]
pub(super) struct JsonSink {
    context: Arc<Context>,
    files: Files<()>,
}

impl JsonSink {
    pub(super) fn new(options: &SinkOptions, observer: ObserverRef) -> Self {
        Self { context: Arc::clone(&options.context), files: Files::new(Output::Jsonl, options, observer) }
    }
}

/// Bytes of lines in one unit, which is one request of the disk. A request costs the processor as much as to render 150
/// records: it goes to sleep, and comes back to caches that others have used.
const UNIT: usize = 2 << 20;

/// Lines as they are.
struct Plain;

impl Encoding<[u8]> for Plain {
    type State = ();

    fn encode<'a>(&'a mut self, (): &(), _: u64, unit: &'a [u8]) -> io::Result<Encoded<'a, ()>> {
        Ok(Encoded { bytes: unit, body: unit.len(), state: () })
    }
}

impl Sink for JsonSink {
    fn write(&mut self, batch: &Batch) {
        let mut lines = JsonLines::default();
        gather(
            batch,
            &self.context,
            UNIT,
            |interface, record, out| lines.write(interface, record, out),
            |slot, unit, counts| self.files.append(&mut Plain, slot, unit.as_slice(), counts),
        );
        self.files.finish_before(batch.window.end);
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.files.close()
    }
}
