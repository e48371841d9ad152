use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::registry::{counters, gauges, register};
use crate::{
    linux::clock,
    tasks::{Attribute, Source, SourceObserver},
};

/// Metrics of the identity sources.
#[derive(Debug)]
pub(super) struct SourceMetrics {
    up: IntGaugeVec,
    requests: IntCounterVec,
    answered: GaugeVec,
    conflicts: IntCounterVec,
}

impl SourceMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            up: gauges(
                registry,
                "observer_source_up",
                "1 if the last request to a source succeeded.",
                &["source"],
            )?,
            requests: counters(
                registry,
                "observer_source_requests_total",
                "Requests to a source, or reads of it, by outcome.",
                &["source", "outcome"],
            )?,
            answered: register(
                registry,
                GaugeVec::new(
                    Opts::new(
                        "observer_source_answered_timestamp_seconds",
                        "Time of a source's last answer, in UNIX seconds.",
                    ),
                    &["source"],
                )?,
            )?,
            conflicts: counters(
                registry,
                "observer_identity_conflicts_total",
                "Values of a source that were ignored because a source with higher priority disagrees.",
                &["source", "field"],
            )?,
        })
    }
}

impl SourceObserver for SourceMetrics {
    fn asked(&self, source: Source, answered: bool) {
        let (name, outcome) = (source.as_str(), if answered { "answered" } else { "failed" });
        self.requests.with_label_values(&[name, outcome]).inc();
        if answered {
            let now = clock::unix_ms() as f64 / 1000.0;
            self.answered.with_label_values(&[name]).set(now);
        }
    }

    fn up(&self, source: Source, up: bool) {
        let name = source.as_str();
        self.up.with_label_values(&[name]).set(up.into());
    }

    fn conflict(&self, source: Source, attribute: Attribute) {
        let name = source.as_str();
        self.conflicts.with_label_values(&[name, attribute.as_str()]).inc();
    }
}
