//! Implementations of the observers of sinks, delivery and sources by the metrics.

use super::{labels::SINK, metrics::Metrics};
use crate::{
    flow::Traffic,
    record::Status,
    sink::{Counts, DeliveryObserver, Output, Recovered, Refusal, SinkLoss, SinkObserver},
    tasks::{Attribute, Source, SourceObserver},
};

impl Metrics {
    /// Creates the series of the outputs in use.
    pub fn outputs(&self, outputs: &[Output]) {
        for output in outputs.iter().map(|output| output.as_str()) {
            self.outputs.failing.with_label_values(&[output]);
            self.outputs.files.with_label_values(&[output]);
        }
    }
}

impl SinkObserver for Metrics {
    fn written(&self, _: Output, counts: &Counts) {
        for status in Status::ALL {
            self.outputs
                .records
                .with_label_values(&[status.as_str()])
                .inc_by(counts.with_status(status));
        }
    }

    fn lost(&self, _: Output, counts: &Counts, reason: SinkLoss) {
        self.outputs.lost_records.with_label_values(&[reason.as_str()]).inc_by(counts.records());
        let lost = Traffic { packets: counts.packets, bytes: counts.bytes };
        self.losses.add(SINK, reason.as_str(), lost);
    }

    fn left_out(&self, counts: &Counts) {
        self.outputs.filtered_records.inc_by(counts.records());
        self.outputs.filtered_packets.inc_by(counts.packets);
        self.outputs.filtered_bytes.inc_by(counts.bytes);
    }

    fn failing(&self, output: Output, failing: bool) {
        self.outputs.failing.with_label_values(&[output.as_str()]).set(failing.into());
    }

    fn finished(&self, output: Output) {
        self.outputs.files.with_label_values(&[output.as_str()]).inc();
    }

    fn recovered(&self, how: Recovered) {
        self.outputs.unfinished_files.with_label_values(&[how.as_str()]).inc();
    }
}

impl DeliveryObserver for Metrics {
    fn delivered(&self, bytes: u64) {
        self.outputs.delivery.files.inc();
        self.outputs.delivery.bytes.inc_by(bytes);
    }

    fn delivery_failed(&self) {
        self.outputs.delivery.failures.inc();
    }

    fn delivery_failing(&self, failing: bool) {
        self.outputs.delivery.failing.set(failing.into());
    }

    fn refused(&self, reason: Refusal) {
        self.outputs.delivery.refused.with_label_values(&[reason.as_str()]).inc();
    }

    fn dropped(&self, counts: Option<(Output, &Counts)>) {
        self.outputs.delivery.dropped.inc();
        if let Some((output, counts)) = counts {
            self.lost(output, counts, SinkLoss::SpoolFull);
        }
    }

    fn waiting(&self, waiting: (u64, u64), aside: (u64, u64)) {
        self.outputs.delivery.spool_files.set(waiting.0 as i64);
        self.outputs.delivery.spool_bytes.set(waiting.1 as i64);
        self.outputs.delivery.aside_files.set(aside.0 as i64);
        self.outputs.delivery.aside_bytes.set(aside.1 as i64);
    }
}

impl SourceObserver for Metrics {
    fn asked(&self, source: Source, answered: bool) {
        self.sources.asked(source, answered);
    }

    fn up(&self, source: Source, up: bool) {
        self.sources.up(source, up);
    }

    fn conflict(&self, source: Source, attribute: Attribute) {
        self.sources.conflict(source, attribute);
    }
}
