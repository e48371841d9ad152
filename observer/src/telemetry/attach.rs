use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntGaugeVec, Opts, Registry};

use super::registry::{counter, register};

/// Metrics of attaching the programs to interfaces.
#[derive(Debug)]
pub(super) struct AttachMetrics {
    states: IntGaugeVec,
    removals: IntCounter,
    failures: IntCounter,
    missed: IntCounter,
    latency: Histogram,
}

/// Buckets around 50 ms, the target for a new task's interface. In seconds.
const SECONDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Number of interfaces in each state.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterfaceCounts {
    /// Interfaces with the programs attached.
    pub attached: usize,
    /// Interfaces whose programs were removed by another process and are not attached again yet.
    pub detached: usize,
    /// Interfaces where attaching failed.
    pub failed: usize,
    /// Excluded links to the ECS agent.
    pub agent_links: usize,
    /// Other excluded interfaces, except loopbacks.
    pub left_out: usize,
}

impl InterfaceCounts {
    fn by_state(self) -> [(&'static str, usize); 5] {
        [
            ("attached", self.attached),
            ("detached", self.detached),
            ("failed", self.failed),
            ("agent_link", self.agent_links),
            ("left_out", self.left_out),
        ]
    }
}

impl AttachMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let states =
            IntGaugeVec::new(Opts::new("observer_interfaces", "Interfaces by state."), &["state"])?;
        for (state, _) in InterfaceCounts::default().by_state() {
            states.with_label_values(&[state]);
        }
        let latency = HistogramOpts::new(
            "observer_attach_latency_seconds",
            "Seconds from the kernel's notice of a new interface until its packets are counted.",
        );
        Ok(Self {
            states: register(registry, states)?,
            removals: counter(
                registry,
                "observer_hook_removals_total",
                "Removals of an interface's programs by other processes; the programs are attached again at once.",
            )?,
            failures: counter(
                registry,
                "observer_attach_failures_total",
                "Failed attempts to attach the programs to an interface; repeated with growing pauses.",
            )?,
            missed: counter(
                registry,
                "observer_interfaces_missed_total",
                "Interfaces that disappeared before their packets could be counted; each has a SKIPDATA record.",
            )?,
            latency: register(registry, Histogram::with_opts(latency.buckets(SECONDS.to_vec()))?)?,
        })
    }

    pub(super) fn removed(&self, times: u64) {
        self.removals.inc_by(times);
    }

    pub(super) fn states(&self, counts: InterfaceCounts) {
        for (state, count) in counts.by_state() {
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
