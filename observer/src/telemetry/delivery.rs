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
                "Finished files that are in the store of --deliver.",
            )?,
            bytes: counter(registry, "observer_delivered_bytes_total", "Their bytes.")?,
            failures: counter(
                registry,
                "observer_delivery_failures_total",
                "Attempts to deliver a file that failed; each is repeated after a pause.",
            )?,
            failing: gauge(
                registry,
                "observer_delivery_failing",
                "1 where files cannot be delivered at present, but for those that the store refuses for good.",
            )?,
            dropped: counter(
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
            refused: counters(
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
        for reason in Refusal::ALL {
            metrics.refused.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }
}
