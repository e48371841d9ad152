//! Metrics of drains of the kernel's flow cache, and of the windows that they fill.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, Registry};

use super::registry::{counter, gauge, register};
use crate::kernel::drain::DrainReport;

/// The timed phases of a drain.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Waiting until no program uses the old half.
    Grace,
    /// Reading, merging and clearing the old half.
    Read,
}

impl Phase {
    const ALL: [Self; 2] = [Self::Grace, Self::Read];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Grace => "grace",
            Self::Read => "read",
        }
    }
}

/// Buckets in seconds, from 100 µs to 10 s.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

#[derive(Debug)]
pub(super) struct WindowMetrics {
    drain_duration: HistogramVec,
    drained: IntCounter,
    spilled: IntCounter,
    windows: IntCounter,
    window_duration: Histogram,
    flows: IntGauge,
}

impl WindowMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let seconds =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let drain_duration = HistogramVec::new(
            seconds("observer_drain_duration_seconds", "Time of a drain."),
            &["phase"],
        )?;
        for phase in Phase::ALL {
            drain_duration.with_label_values(&[phase.as_str()]);
        }
        let window_duration = Histogram::with_opts(seconds(
            "observer_window_duration_seconds",
            "Time to close a window.",
        ))?;
        Ok(Self {
            drain_duration: register(registry, drain_duration)?,
            drained: counter(
                registry,
                "observer_drained_entries_total",
                "Entries of the flow cache read by drains.",
            )?,
            spilled: counter(
                registry,
                "observer_spilled_entries_total",
                "Entries evicted from the flow cache and received through the ring.",
            )?,
            windows: counter(registry, "observer_windows_total", "Windows closed.")?,
            window_duration: register(registry, window_duration)?,
            flows: gauge(registry, "observer_flows", "Flows in the open window.")?,
        })
    }

    pub(super) fn drained(&self, report: &DrainReport) {
        for (phase, time) in [(Phase::Grace, report.grace), (Phase::Read, report.read)] {
            self.drain_duration.with_label_values(&[phase.as_str()]).observe(time.as_secs_f64());
        }
        self.drained.inc_by(report.entries);
        self.spilled(report.spilled);
    }

    pub(super) fn spilled(&self, entries: u64) {
        self.spilled.inc_by(entries);
    }

    pub(super) fn closed(&self, took: Duration) {
        self.windows.inc();
        self.window_duration.observe(took.as_secs_f64());
    }

    pub(super) fn open_flows(&self, flows: usize) {
        self.flows.set(flows as i64);
    }
}
