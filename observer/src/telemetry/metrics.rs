use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use observer_ebpf::abi::{Ledger, LossReason, NonIpKind, Note};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};

use super::{
    attach::{AttachMetrics, InterfaceCounts},
    drops::DropMetrics,
    interfaces::{InterfaceCollector, InterfaceStats, Shared},
    labels::WINDOW_FULL,
    outputs::OutputMetrics,
    sources::SourceMetrics,
    totals::Totals,
};
use crate::{
    accounts::{Protocol, Uncounted},
    flow::{Direction, Traffic},
    kernel::{drain::DrainReport, xdp::Reason},
    netlink,
    record::Subject,
    sink::SinkLoss,
    tasks::{Attribute, Source, SourceObserver},
};

/// The parts of a drain that are timed.
#[derive(Clone, Copy, Debug)]
pub enum Phase {
    /// Waiting until no program runs on the old half.
    Grace,
    /// Reading, merging and clearing.
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

/// 100 µs to 10 s: shorter is noise, longer is broken.
const SECONDS: [f64; 11] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Everything that is counted about the daemon, but for what belongs to one interface.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    interfaces: Arc<Shared>,
    totals: Totals,
    pub(super) lost_packets: IntCounterVec,
    pub(super) lost_bytes: IntCounterVec,
    pub(super) outputs: OutputMetrics,
    netlink_unread: IntCounterVec,
    non_ip_frames: IntCounterVec,
    notes: IntCounterVec,
    copied: IntCounter,
    spilled: IntCounter,
    drained: IntCounter,
    drops: DropMetrics,
    windows: IntCounter,
    flows: IntGauge,
    xdp_refusals: IntCounterVec,
    attach: AttachMetrics,
    sources: SourceMetrics,
    drain_duration: HistogramVec,
    window_duration: Histogram,
}

const ATTACH: &str = "attach";
const KERNEL: &str = "kernel";
const WINDOW: &str = "window";
pub(super) const SINK: &str = "sink";

impl Metrics {
    /// Metrics in a registry of their own, every label value of a closed list present from the start.
    pub fn new(hook: &str, cache_flows: u64) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            interfaces: Arc::new(Shared::default()),
            totals: Totals::new(&registry)?,
            outputs: OutputMetrics::new(&registry)?,
            lost_packets: counters(
                &registry,
                "observer_lost_packets_total",
                "Packets that crossed an observed interface, or were stopped before they did, and are in no record.",
                &["stage", "reason"],
            )?,
            lost_bytes: counters(
                &registry,
                "observer_lost_bytes_total",
                "Their bytes of layer 3.",
                &["stage", "reason"],
            )?,
            netlink_unread: counters(
                &registry,
                "observer_netlink_unread_total",
                "Netlink messages of the kernel of which something could not be understood; the rest was used.",
                &["kind"],
            )?,
            non_ip_frames: counters(
                &registry,
                "observer_non_ip_frames_total",
                "Frames that carry no IP packet, which VPC Flow Logs do not know.",
                &["kind"],
            )?,
            notes: counters(
                &registry,
                "observer_notes_packets_total",
                "Recorded packets about which something could not be told.",
                &["note"],
            )?,
            copied: counter(
                &registry,
                "observer_copied_frames_total",
                "Frames whose headers were copied to be read: not linear, not plain, or super-packets.",
            )?,
            spilled: counter(
                &registry,
                "observer_spilled_entries_total",
                "Entries of the flow cache that made room for others and came by the ring.",
            )?,
            drained: counter(
                &registry,
                "observer_drained_entries_total",
                "Entries of the flow cache that came by a drain.",
            )?,
            drops: DropMetrics::new(&registry)?,
            windows: counter(&registry, "observer_windows_total", "Windows closed.")?,
            flows: gauge(&registry, "observer_flows", "Flows in the window that is open.")?,
            xdp_refusals: counters(
                &registry,
                "observer_xdp_refusals_total",
                "Interfaces on which XDP was asked for, and TC counts instead.",
                &["reason"],
            )?,
            attach: AttachMetrics::new(&registry)?,
            sources: SourceMetrics::new(&registry)?,
            drain_duration: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("observer_drain_duration_seconds", "Time of a drain.")
                        .buckets(SECONDS.to_vec()),
                    &["phase"],
                )?,
            )?,
            window_duration: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("observer_window_duration_seconds", "Time to close a window.")
                        .buckets(SECONDS.to_vec()),
                )?,
            )?,
            registry,
        };
        metrics.registry.register(Box::new(InterfaceCollector::new(Arc::clone(&metrics.interfaces))?))?;
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        constants(&metrics.registry, hook, cache_flows)?;
        metrics.present();
        Ok(metrics)
    }

    /// Makes every series of a closed list exist, so that rates work from the first scrape.
    fn present(&self) {
        for reason in LossReason::ALL {
            self.lost_packets.with_label_values(&[KERNEL, reason.as_str()]);
            self.lost_bytes.with_label_values(&[KERNEL, reason.as_str()]);
        }
        for reason in Uncounted::ALL {
            self.uncounted(reason, Traffic::NONE);
        }
        self.window_refused(Traffic::NONE);
        for reason in SinkLoss::ALL {
            self.lost_packets.with_label_values(&[SINK, reason.as_str()]);
            self.lost_bytes.with_label_values(&[SINK, reason.as_str()]);
        }
        self.take_unread();
        for kind in NonIpKind::ALL {
            self.non_ip_frames.with_label_values(&[kind.as_str()]);
        }
        for note in Note::ALL {
            self.notes.with_label_values(&[note.as_str()]);
        }
        for phase in Phase::ALL {
            self.drain_duration.with_label_values(&[phase.as_str()]);
        }
        for reason in Reason::ALL {
            self.xdp_refusals.with_label_values(&[reason.as_str()]);
        }
    }

    /// So much more is recorded of an interface.
    pub fn recorded(&self, subject: &Subject, direction: Direction, protocol: Protocol, by: Traffic) {
        self.totals.recorded(subject, direction, protocol, by);
    }

    /// The kernel dropped so much more of an interface.
    pub fn dropped(&self, direction: Direction, reason: &str, by: Traffic) {
        self.totals.dropped(direction, reason, by);
    }

    /// What the kernel's account of an interface and direction grew by.
    pub fn ledger_grew(&self, direction: Direction, by: &Ledger) {
        self.totals.ledger_grew(direction, by);
        for reason in LossReason::ALL {
            let lost = by.lost[reason as usize];
            self.lost_packets.with_label_values(&[KERNEL, reason.as_str()]).inc_by(lost.packets);
            self.lost_bytes.with_label_values(&[KERNEL, reason.as_str()]).inc_by(lost.bytes);
        }
        for kind in NonIpKind::ALL {
            self.non_ip_frames.with_label_values(&[kind.as_str()]).inc_by(by.non_ip[kind as usize]);
        }
        for note in Note::ALL {
            self.notes.with_label_values(&[note.as_str()]).inc_by(by.notes[note as usize]);
        }
        self.copied.inc_by(by.copied);
    }

    /// A new interface is observed, after this time.
    pub fn attached_after(&self, took: Duration) {
        self.attach.attached_after(took);
    }

    /// An interface carried this, and its programs did not count it.
    pub fn uncounted(&self, reason: Uncounted, by: Traffic) {
        self.lost_packets.with_label_values(&[ATTACH, reason.as_str()]).inc_by(by.packets);
        self.lost_bytes.with_label_values(&[ATTACH, reason.as_str()]).inc_by(by.bytes);
    }

    /// A window had no room for this.
    pub fn window_refused(&self, by: Traffic) {
        self.lost_packets.with_label_values(&[WINDOW, WINDOW_FULL]).inc_by(by.packets);
        self.lost_bytes.with_label_values(&[WINDOW, WINDOW_FULL]).inc_by(by.bytes);
    }

    /// A drain is done.
    pub fn drained(&self, report: &DrainReport) {
        for (phase, time) in [(Phase::Grace, report.grace), (Phase::Read, report.read)] {
            self.drain_duration.with_label_values(&[phase.as_str()]).observe(time.as_secs_f64());
        }
        self.drained.inc_by(report.entries);
        self.drops.drained(report.dropped);
        self.spilled.inc_by(report.spilled);
    }

    /// Entries came by the ring between drains.
    pub fn spilled(&self, entries: u64) {
        self.spilled.inc_by(entries);
    }

    /// What is counted about drops.
    pub const fn drops(&self) -> &DropMetrics {
        &self.drops
    }

    /// A window is closed.
    pub fn window_closed(&self, took: Duration) {
        self.windows.inc();
        self.window_duration.observe(took.as_secs_f64());
    }

    /// What the tick leaves for the next scrape.
    pub fn publish(&self, flows: usize, interfaces: Vec<InterfaceStats>) {
        self.take_unread();
        self.flows.set(flows as i64);
        self.interfaces.set(interfaces);
    }

    /// What the process has counted by itself.
    fn take_unread(&self) {
        for kind in netlink::Kind::ALL {
            let counter = self.netlink_unread.with_label_values(&[kind.as_str()]);
            counter.inc_by(netlink::unread(kind).saturating_sub(counter.get()));
        }
    }

    /// How many interfaces are in each state.
    pub fn interfaces(&self, counts: InterfaceCounts) {
        self.attach.states(counts);
    }

    /// Somebody has removed the programs of an interface, so many times.
    pub fn hooks_removed(&self, times: u64) {
        self.attach.removed(times);
    }

    /// An interface was gone before the programs were on it.
    pub fn interface_missed(&self) {
        self.attach.missed();
    }

    /// An attempt to put the programs on an interface failed.
    pub fn attach_failed(&self) {
        self.attach.failed();
    }

    /// XDP was not put on an interface.
    pub fn xdp_refused(&self, reason: Reason) {
        self.xdp_refusals.with_label_values(&[reason.as_str()]).inc();
    }

    /// All of it, in Prometheus' text format.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// What does not change while the daemon runs.
fn constants(registry: &Registry, hook: &str, cache_flows: u64) -> prometheus::Result<()> {
    let build = register(
        registry,
        IntGaugeVec::new(
            Opts::new("observer_build_info", "The version that runs and how it is hooked in."),
            &["version", "hook"],
        )?,
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), hook]).set(1);
    gauge(registry, "observer_flow_cache_flows", "Flows that half of the kernel's cache holds.")?
        .set(cache_flows as i64);
    Ok(())
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

pub(super) fn register<T: Collector + Clone + 'static>(
    registry: &Registry,
    metric: T,
) -> prometheus::Result<T> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

pub(super) fn counters(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> prometheus::Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

pub(super) fn counter(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntCounter> {
    register(registry, IntCounter::new(name, help)?)
}

pub(super) fn gauge(registry: &Registry, name: &str, help: &str) -> prometheus::Result<IntGauge> {
    register(registry, IntGauge::new(name, help)?)
}

/// Whether the daemon lives, and whether it observes all that it found.
#[derive(Debug, Default)]
pub struct Health {
    /// UNIX milliseconds of the last tick.
    last_tick_ms: AtomicI64,
    ready: AtomicBool,
    /// A line for each interface that should be observed and is not.
    unobserved: Mutex<Vec<String>>,
}

/// A tick comes every second; one that is this late does not come.
const STALE_MS: i64 = 10_000;

impl Health {
    /// A tick is done.
    pub fn ticked(&self, unix_ms: i64) {
        self.last_tick_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// Everything that was there at the start is attached, or has failed to.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Whether ticks come.
    pub fn is_live(&self, unix_ms: i64) -> bool {
        unix_ms - self.last_tick_ms.load(Ordering::Relaxed) < STALE_MS
    }

    /// A line for each interface that should be observed and is not.
    pub fn set_unobserved(&self, lines: Vec<String>) {
        *self.unobserved.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// Whether the first round of attaching is over, and all that was found is observed; else the reasons.
    pub fn readiness(&self) -> Result<(), Vec<String>> {
        if !self.ready.load(Ordering::Relaxed) {
            return Err(vec!["attaching".into()]);
        }
        let lines = self.unobserved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }
}
