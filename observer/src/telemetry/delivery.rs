use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::registry::{counter, counters, gauge};
use crate::sink::Refusal;

/// Metrics of the delivery of finished files.
#[derive(Debug)]
pub(super) struct DeliveryMetrics {
    pub(super) files: IntCounter,
    pub(super) bytes: IntCounter,
    pub(super) failures: IntCounter,
    pub(super) failing: IntGauge,
    pub(super) dropped: IntCounter,
    pub(super) spool_files: IntGauge,
    pub(super) spool_bytes: IntGauge,
    pub(super) refused: IntCounterVec,
    pub(super) aside_files: IntGauge,
    pub(super) aside_bytes: IntGauge,
}

impl DeliveryMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            files: counter(
                registry,
                "observer_delivered_files_total",
                "Files delivered to the store of --deliver.",
            )?,
            bytes: counter(
                registry,
                "observer_delivered_bytes_total",
                "Bytes of files delivered to the store of --deliver.",
            )?,
            failures: counter(
                registry,
                "observer_delivery_failures_total",
                "Failed attempts to deliver a file; repeated after a pause.",
            )?,
            failing: gauge(
                registry,
                "observer_delivery_failing",
                "1 while delivery fails, except for files that the store refuses permanently.",
            )?,
            dropped: counter(
                registry,
                "observer_dropped_files_total",
                "Files removed undelivered because more than --spool-size waited.",
            )?,
            spool_files: gauge(
                registry,
                "observer_spool_files",
                "Finished files waiting for delivery.",
            )?,
            spool_bytes: gauge(
                registry,
                "observer_spool_bytes",
                "Bytes of finished files waiting for delivery.",
            )?,
            refused: counters(
                registry,
                "observer_refused_files_total",
                "Files set aside until the next start, because the store refuses them but accepts others.",
                &["reason"],
            )?,
            aside_files: gauge(
                registry,
                "observer_set_aside_files",
                "Files set aside; they count against --spool-size.",
            )?,
            aside_bytes: gauge(registry, "observer_set_aside_bytes", "Bytes of files set aside.")?,
        };
        for reason in Refusal::ALL {
            metrics.refused.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }
}
