use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Registry};

use super::{
    delivery::DeliveryMetrics,
    registry::{counter, counters, gauges},
};
use crate::{
    record::Status,
    sink::{Recovered, SinkLoss},
};

/// Metrics of the outputs.
#[derive(Debug)]
pub(super) struct OutputMetrics {
    pub(super) records: IntCounterVec,
    pub(super) lost_records: IntCounterVec,
    pub(super) failing: IntGaugeVec,
    pub(super) files: IntCounterVec,
    pub(super) unfinished_files: IntCounterVec,
    pub(super) filtered_records: IntCounter,
    pub(super) filtered_packets: IntCounter,
    pub(super) filtered_bytes: IntCounter,
    pub(super) delivery: DeliveryMetrics,
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
                "Records not written, or lost with their file, once per output.",
                &["reason"],
            )?,
            failing: gauges(
                registry,
                "observer_output_failing",
                "1 while an output cannot be written.",
                &["output"],
            )?,
            files: counters(registry, "observer_files_total", "Files finished.", &["output"])?,
            unfinished_files: counters(
                registry,
                "observer_unfinished_files_total",
                "Unfinished files of an earlier run, by result of the recovery.",
                &["result"],
            )?,
            filtered_records: counter(
                registry,
                "observer_filtered_records_total",
                "Records excluded by --filter and --aws-parity.",
            )?,
            filtered_packets: counter(
                registry,
                "observer_filtered_packets_total",
                "Packets of the excluded records.",
            )?,
            filtered_bytes: counter(
                registry,
                "observer_filtered_bytes_total",
                "Layer-3 bytes of the excluded records.",
            )?,
            delivery: DeliveryMetrics::new(registry)?,
        };
        for status in Status::ALL {
            metrics.records.with_label_values(&[status.as_str()]);
        }
        for reason in SinkLoss::ALL {
            metrics.lost_records.with_label_values(&[reason.as_str()]);
        }
        for result in Recovered::ALL {
            metrics.unfinished_files.with_label_values(&[result.as_str()]);
        }
        Ok(metrics)
    }
}
