//! All metrics of the daemon, in one registry.

use std::{sync::Arc, time::Duration};

use observer_ebpf::abi::{Ledger, LossReason};
use prometheus::{IntCounterVec, Registry, TextEncoder, process_collector::ProcessCollector};

use super::{
    attach::{AttachMetrics, InterfaceCounts},
    drops::DropMetrics,
    frames::FrameMetrics,
    interfaces::{InterfaceCollector, InterfaceStats, Shared},
    labels::{ATTACH, KERNEL, WINDOW, WINDOW_FULL},
    losses::LossMetrics,
    outputs::OutputMetrics,
    registry::{counters, gauge, gauges},
    sources::SourceMetrics,
    totals::Totals,
    windows::WindowMetrics,
};
use crate::{
    accounts::{Protocol, Uncounted},
    flow::{Direction, Traffic},
    kernel::{drain::DrainReport, xdp::Reason},
    linux::netlink,
    record::Subject,
};

/// All metrics of the daemon.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Series of single interfaces, created at each scrape.
    interfaces: Arc<Shared>,
    totals: Totals,
    pub(super) losses: LossMetrics,
    pub(super) outputs: OutputMetrics,
    netlink_unread: IntCounterVec,
    frames: FrameMetrics,
    drops: DropMetrics,
    windows: WindowMetrics,
    xdp_refusals: IntCounterVec,
    attach: AttachMetrics,
    pub(super) sources: SourceMetrics,
}

impl Metrics {
    /// Creates a registry with all metrics. Every value of a closed list of labels exists from the
    /// start, so that rates work from the first scrape.
    pub fn new(hook: &str, cache_flows: u64) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let metrics = Self {
            interfaces: Arc::new(Shared::default()),
            totals: Totals::new(&registry)?,
            losses: LossMetrics::new(&registry)?,
            outputs: OutputMetrics::new(&registry)?,
            netlink_unread: counters(
                &registry,
                "observer_netlink_unread_total",
                "Netlink messages with a part that could not be parsed; the rest was used.",
                &["kind"],
            )?,
            frames: FrameMetrics::new(&registry)?,
            drops: DropMetrics::new(&registry)?,
            windows: WindowMetrics::new(&registry)?,
            xdp_refusals: counters(
                &registry,
                "observer_xdp_refusals_total",
                "Interfaces that TC counts although XDP was requested.",
                &["reason"],
            )?,
            attach: AttachMetrics::new(&registry)?,
            sources: SourceMetrics::new(&registry)?,
            registry,
        };
        metrics
            .registry
            .register(Box::new(InterfaceCollector::new(Arc::clone(&metrics.interfaces))?))?;
        metrics.registry.register(Box::new(ProcessCollector::for_self()))?;
        constants(&metrics.registry, hook, cache_flows)?;
        metrics.take_unread();
        for reason in Reason::ALL {
            metrics.xdp_refusals.with_label_values(&[reason.as_str()]);
        }
        Ok(metrics)
    }

    /// Adds recorded traffic of an interface.
    pub fn recorded(
        &self,
        subject: &Subject,
        direction: Direction,
        protocol: Protocol,
        by: Traffic,
    ) {
        self.totals.recorded(subject, direction, protocol, by);
    }

    /// Adds traffic of an interface that the kernel dropped.
    pub fn dropped(&self, direction: Direction, reason: &str, by: Traffic) {
        self.totals.dropped(direction, reason, by);
    }

    /// Adds the growth of the kernel's ledger of an interface and direction.
    pub fn ledger_grew(&self, direction: Direction, by: &Ledger) {
        self.totals.ledger_grew(direction, by);
        for reason in LossReason::ALL {
            let lost = by.lost[reason as usize];
            let lost = Traffic { packets: lost.packets, bytes: lost.bytes };
            self.losses.add(KERNEL, reason.as_str(), lost);
        }
        self.frames.ledger_grew(by);
    }

    /// Records the time from a new interface's appearance until its packets are counted.
    pub fn attached_after(&self, took: Duration) {
        self.attach.attached_after(took);
    }

    /// Adds traffic that an interface carried and its programs did not count.
    pub fn uncounted(&self, reason: Uncounted, by: Traffic) {
        self.losses.add(ATTACH, reason.as_str(), by);
    }

    /// Adds traffic that found no room in a window.
    pub fn window_refused(&self, by: Traffic) {
        self.losses.add(WINDOW, WINDOW_FULL, by);
    }

    /// Records a drain of the kernel's tables.
    pub fn drained(&self, report: &DrainReport) {
        self.windows.drained(report);
        self.drops.drained(report.dropped);
    }

    /// Adds entries received through the ring between drains.
    pub fn spilled(&self, entries: u64) {
        self.windows.spilled(entries);
    }

    /// Metrics of drops.
    pub const fn drops(&self) -> &DropMetrics {
        &self.drops
    }

    /// Records the closing of a window.
    pub fn window_closed(&self, took: Duration) {
        self.windows.closed(took);
    }

    /// Publishes the state of a tick for the next scrape.
    pub fn publish(&self, flows: usize, interfaces: Vec<InterfaceStats>) {
        self.take_unread();
        self.windows.open_flows(flows);
        self.interfaces.set(interfaces);
    }

    /// Raises the counters to the process-wide counts of the netlink readers.
    fn take_unread(&self) {
        for kind in netlink::Kind::ALL {
            let counter = self.netlink_unread.with_label_values(&[kind.as_str()]);
            counter.inc_by(netlink::unread(kind).saturating_sub(counter.get()));
        }
    }

    /// Sets the number of interfaces in each state.
    pub fn interfaces(&self, counts: InterfaceCounts) {
        self.attach.states(counts);
    }

    /// Adds removals of programs by other processes.
    pub fn hooks_removed(&self, times: u64) {
        self.attach.removed(times);
    }

    /// Counts an interface that disappeared before the programs were attached.
    pub fn interface_missed(&self) {
        self.attach.missed();
    }

    /// Counts a failed attempt to attach.
    pub fn attach_failed(&self) {
        self.attach.failed();
    }

    /// Counts an interface where XDP was not attached.
    pub fn xdp_refused(&self, reason: Reason) {
        self.xdp_refusals.with_label_values(&[reason.as_str()]).inc();
    }

    /// Renders all metrics in the Prometheus text format.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

/// Sets the metrics that do not change while the daemon runs.
fn constants(registry: &Registry, hook: &str, cache_flows: u64) -> prometheus::Result<()> {
    let build = gauges(
        registry,
        "observer_build_info",
        "Version and hook of the running daemon.",
        &["version", "hook"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), hook]).set(1);
    gauge(registry, "observer_flow_cache_flows", "Flows that half of the kernel's cache holds.")?
        .set(cache_flows as i64);
    Ok(())
}
