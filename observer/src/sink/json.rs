use std::{io, sync::Arc};

use super::{
    files::{Encoded, Encoding, Files},
    lines::gather,
    observer::ObserverRef,
    options::SinkOptions,
    output::{CloseError, Output, Sink},
};
use crate::record::{Batch, Context, JsonLines};

/// The output of JSON lines to files.
#[derive(Debug)]
pub(super) struct JsonSink {
    context: Arc<Context>,
    files: Files<()>,
}

impl JsonSink {
    pub(super) fn new(options: &SinkOptions, observer: ObserverRef) -> Self {
        Self {
            context: Arc::clone(&options.context),
            files: Files::new(Output::Jsonl, options, observer),
        }
    }
}

/// Size of a unit in bytes; each unit is one write to the disk. A write costs as much CPU time as
/// rendering 150 records, because the thread sleeps and finds cold caches when it wakes.
const UNIT: usize = 2 << 20;

/// No encoding: lines are written unchanged.
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
        self.files.end_batch(batch.id, batch.window.end);
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.files.close()
    }
}
