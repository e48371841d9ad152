//! Counts of the sinks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sink::{Counts, Output, Recovered, SinkLoss, SinkObserver};

/// Records written by the sinks of a replay, and failures.
#[derive(Debug)]
pub(super) struct Written {
    /// The output whose records are counted; all outputs write the same records.
    output: Output,
    records: AtomicU64,
    failed: AtomicBool,
}

impl Written {
    /// Counts the records of an output.
    pub(super) fn by(output: Output) -> Self {
        Self { output, records: AtomicU64::default(), failed: AtomicBool::default() }
    }

    /// Number of records written.
    pub(super) fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// True if any output has lost records.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl SinkObserver for Written {
    fn written(&self, output: Output, counts: &Counts) {
        if output == self.output {
            self.records.fetch_add(counts.records(), Ordering::Relaxed);
        }
    }

    fn lost(&self, _: Output, _: &Counts, _: SinkLoss) {
        self.failed.store(true, Ordering::Relaxed);
    }

    fn left_out(&self, _: &Counts) {}
    fn failing(&self, _: Output, _: bool) {}
    fn finished(&self, _: Output) {}
    fn recovered(&self, _: Recovered) {}
}
