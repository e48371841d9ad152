use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::metrics::{Metrics, SINK, counter, counters, gauge, register};
use crate::{
    record::Status,
    sink::{Counts, DeliveryObserver, Output, Recovered, Refusal, SinkLoss, SinkObserver},
};

/// What is counted of the outputs.
#[derive(Debug)]
pub(super) struct OutputMetrics {
    records: IntCounterVec,
    lost_records: IntCounterVec,
    failing: IntGaugeVec,
    files: IntCounterVec,
    unfinished_files: IntCounterVec,
    filtered_records: IntCounter,
    filtered_packets: IntCounter,
    filtered_bytes: IntCounter,
    delivered_files: IntCounter,
    delivered_bytes: IntCounter,
    delivery_failures: IntCounter,
    delivery_failing: IntGauge,
    dropped_files: IntCounter,
    spool_files: IntGauge,
    spool_bytes: IntGauge,
    refused_files: IntCounterVec,
    aside_files: IntGauge,
    aside_bytes: IntGauge,
}

impl OutputMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            records: counters(
                registry,
                "observer_records_total",
                "Records written, once per output.",
                &["log_status"],
            )?,
            lost_records: counters(
                registry,
                "observer_lost_records_total",
                "Records that were not written, or are gone with their unfinished file, once per output.",
                &["reason"],
            )?,
            failing: register(
                registry,
                IntGaugeVec::new(
                    Opts::new("observer_output_failing", "1 where an output cannot be written."),
                    &["output"],
                )?,
            )?,
            files: counters(registry, "observer_files_total", "Files finished.", &["output"])?,
            unfinished_files: counters(
                registry,
                "observer_unfinished_files_total",
                "Files that an earlier run left unfinished, by what became of them.",
                &["result"],
            )?,
            filtered_records: counter(
                registry,
                "observer_filtered_records_total",
                "Records that --filter and --aws-parity keep out of the outputs.",
            )?,
            filtered_packets: counter(
                registry,
                "observer_filtered_packets_total",
                "Packets of their flows.",
            )?,
            filtered_bytes: counter(registry, "observer_filtered_bytes_total", "Their bytes of layer 3.")?,
            delivered_files: counter(
                registry,
                "observer_delivered_files_total",
                "Finished files that are in the store of --deliver.",
            )?,
            delivered_bytes: counter(registry, "observer_delivered_bytes_total", "Their bytes.")?,
            delivery_failures: counter(
                registry,
                "observer_delivery_failures_total",
                "Attempts to deliver a file that failed; each is repeated after a pause.",
            )?,
            delivery_failing: gauge(
                registry,
                "observer_delivery_failing",
                "1 where files cannot be delivered at present, but for those that the store refuses for good.",
            )?,
            dropped_files: counter(
                registry,
                "observer_dropped_files_total",
                "Finished files that were removed undelivered, because more than --spool-size waited.",
            )?,
            spool_files: gauge(
                registry,
                "observer_spool_files",
                "Finished files that wait to be delivered.",
            )?,
            spool_bytes: gauge(registry, "observer_spool_bytes", "Their bytes.")?,
            refused_files: counters(
                registry,
                "observer_refused_files_total",
                "Finished files that the store refuses while it takes others: set aside until the next start.",
                &["reason"],
            )?,
            aside_files: gauge(
                registry,
                "observer_set_aside_files",
                "Finished files that are set aside; they count against --spool-size.",
            )?,
            aside_bytes: gauge(registry, "observer_set_aside_bytes", "Their bytes.")?,
        };
        for status in Status::ALL {
            metrics.records.with_label_values(&[status.as_str()]);
        }
        for reason in SinkLoss::ALL {
            metrics.lost_records.with_label_values(&[reason.as_str()]);
        }
        for reason in Refusal::ALL {
            metrics.refused_files.with_label_values(&[reason.as_str()]);
        }
        for result in Recovered::ALL {
            metrics.unfinished_files.with_label_values(&[result.as_str()]);
        }
        Ok(metrics)
    }
}

impl Metrics {
    /// Makes the series of the outputs in use exist.
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
            self.outputs.records.with_label_values(&[status.as_str()]).inc_by(counts.with_status(status));
        }
    }

    fn lost(&self, _: Output, counts: &Counts, reason: SinkLoss) {
        self.outputs.lost_records.with_label_values(&[reason.as_str()]).inc_by(counts.records());
        let labels = [SINK, reason.as_str()];
        self.lost_packets.with_label_values(&labels).inc_by(counts.packets);
        self.lost_bytes.with_label_values(&labels).inc_by(counts.bytes);
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
        self.outputs.delivered_files.inc();
        self.outputs.delivered_bytes.inc_by(bytes);
    }

    fn delivery_failed(&self) {
        self.outputs.delivery_failures.inc();
    }

    fn delivery_failing(&self, failing: bool) {
        self.outputs.delivery_failing.set(failing.into());
    }

    fn refused(&self, reason: Refusal) {
        self.outputs.refused_files.with_label_values(&[reason.as_str()]).inc();
    }

    fn dropped(&self, counts: Option<(Output, &Counts)>) {
        self.outputs.dropped_files.inc();
        if let Some((output, counts)) = counts {
            self.lost(output, counts, SinkLoss::SpoolFull);
        }
    }

    fn waiting(&self, waiting: (u64, u64), aside: (u64, u64)) {
        self.outputs.spool_files.set(waiting.0 as i64);
        self.outputs.spool_bytes.set(waiting.1 as i64);
        self.outputs.aside_files.set(aside.0 as i64);
        self.outputs.aside_bytes.set(aside.1 as i64);
    }
}
