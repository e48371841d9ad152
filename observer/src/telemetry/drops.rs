use std::collections::BTreeMap;

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::{
    labels::WINDOW_FULL,
    registry::{counter, counters, register},
};
use crate::{
    flow::Traffic,
    kernel::drops::{DropDetail, DropTotals, Dropped},
};

/// Metrics of packets dropped by the kernel, except those of single interfaces.
#[derive(Debug)]
pub struct DropMetrics {
    drained: IntCounter,
    visible: IntGaugeVec,
    unattributed: IntCounterVec,
    uncounted: IntCounter,
    missed: IntCounter,
    unbooked: IntCounterVec,
    unnoted: IntCounterVec,
}

const VISIBLE: [&str; 2] = ["counts", "reasons"];
/// The records were already written, or the hook counted the packets in another flow.
const LATE: &str = "late";
/// The table had no room for the flow.
const TABLE_FULL: &str = "table_full";
/// The headers could not be read.
const UNREAD: &str = "unread";

impl DropMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let visible = Opts::new(
            "observer_drops_visible",
            "1 if the kernel shows the number of dropped packets, and their reasons.",
        );
        let metrics = Self {
            drained: counter(
                registry,
                "observer_drained_drops_total",
                "Entries of the table of drops read by drains.",
            )?,
            visible: register(registry, IntGaugeVec::new(visible, &["what"])?)?,
            unattributed: counters(
                registry,
                "observer_unattributed_dropped_packets_total",
                "Packets that the kernel dropped before they were assigned to one of a namespace's interfaces.",
                &["reason"],
            )?,
            uncounted: counter(
                registry,
                "observer_uncounted_dropped_packets_total",
                "Dropped packets whose interface and reason found no room in the kernel's table.",
            )?,
            missed: counter(
                registry,
                "observer_missed_drops_total",
                "Dropped buffers missed because the program was already running on the same CPU.",
            )?,
            unbooked: counters(
                registry,
                "observer_unbooked_rejects_packets_total",
                "Packets dropped by host policy after the hook that are in no REJECT record.",
                &["cause"],
            )?,
            unnoted: counters(
                registry,
                "observer_unnoted_undelivered_packets_total",
                "Undelivered packets that no record's undelivered_packets counts.",
                &["cause"],
            )?,
        };
        metrics.set_visible(None);
        for cause in [LATE, TABLE_FULL, UNREAD, WINDOW_FULL] {
            metrics.unbooked.with_label_values(&[cause]);
        }
        for cause in [LATE, TABLE_FULL] {
            metrics.unnoted.with_label_values(&[cause]);
        }
        Ok(metrics)
    }

    pub(super) fn drained(&self, entries: u64) {
        self.drained.inc_by(entries);
    }

    /// Sets the visibility of drops on this host; `None` if the kernel shows none.
    pub fn set_visible(&self, detail: Option<DropDetail>) {
        let shown = [detail.is_some(), detail == Some(DropDetail::Reasons)];
        for (what, shown) in VISIBLE.into_iter().zip(shown) {
            self.visible.with_label_values(&[what]).set(shown.into());
        }
    }

    /// Sets the total of drops that belong to no single interface.
    pub fn set_totals(&self, totals: &DropTotals, of_none: impl Iterator<Item = Dropped>) {
        raise(&self.uncounted, totals.uncounted);
        raise(&self.missed, totals.missed);
        for (cause, packets) in [(TABLE_FULL, totals.table_full), (UNREAD, totals.unread)] {
            raise(&self.unbooked.with_label_values(&[cause]), packets);
        }
        raise(&self.unnoted.with_label_values(&[TABLE_FULL]), totals.undelivered_full);
        let mut by_reason = BTreeMap::<_, u64>::new();
        for dropped in of_none {
            *by_reason.entry(dropped.reason).or_default() += dropped.count.packets;
        }
        for (reason, packets) in by_reason {
            raise(&self.unattributed.with_label_values(&[&*reason]), packets);
        }
    }

    /// Adds packets dropped by policy after the hook that could not be subtracted from the flow
    /// that counted them.
    pub fn late(&self, late: Traffic) {
        self.unbooked.with_label_values(&[LATE]).inc_by(late.packets);
    }

    /// Adds undelivered packets of a flow that no open window holds.
    pub fn undelivered_late(&self, packets: u64) {
        self.unnoted.with_label_values(&[LATE]).inc_by(packets);
    }

    /// Adds packets dropped by policy after the hook whose own flow found no room in the window.
    pub fn refused(&self, packets: u64) {
        self.unbooked.with_label_values(&[WINDOW_FULL]).inc_by(packets);
    }
}

/// Raises a counter to a value.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
