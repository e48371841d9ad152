use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts, Registry};

use super::metrics::{counter, register};

/// What happens to interfaces.
#[derive(Debug)]
pub(super) struct AttachMetrics {
    states: IntGaugeVec,
    failures: IntCounter,
    missed: IntCounter,
    latency: Histogram,
}

/// Around 50 ms, which a new task's first packets should not have to wait for.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0];
const STATES: [&str; 3] = ["attached", "failed", "agent_link"];

impl AttachMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let states = IntGaugeVec::new(Opts::new("observer_interfaces", "Interfaces by state."), &["state"])?;
        for state in STATES {
            states.with_label_values(&[state]);
        }
        let latency = HistogramOpts::new(
            "observer_attach_latency_seconds",
            "From the kernel's first word of a new interface until its packets are counted.",
        );
        Ok(Self {
            states: register(registry, states)?,
            failures: counter(
                registry,
                "observer_attach_failures_total",
                "Interfaces on which the programs could not be put; tried again with growing pauses.",
            )?,
            missed: counter(
                registry,
                "observer_interfaces_missed_total",
                "Interfaces that were gone before their packets could be counted; each has a SKIPDATA record.",
            )?,
            latency: register(registry, Histogram::with_opts(latency.buckets(SECONDS.to_vec()))?)?,
        })
    }

    /// How many are in each of the states.
    pub(super) fn states(&self, counts: [usize; 3]) {
        for (state, count) in STATES.iter().zip(counts) {
            self.states.with_label_values(&[state]).set(count as i64);
        }
    }

    pub(super) fn failed(&self) {
        self.failures.inc();
    }

    pub(super) fn missed(&self) {
        self.missed.inc();
    }

    pub(super) fn attached_after(&self, took: Duration) {
        self.latency.observe(took.as_secs_f64());
    }
}
