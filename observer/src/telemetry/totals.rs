//! Sums over all interfaces, also those that are gone.
//!
//! The series of an interface end with it, and a task that lives for two seconds between two
//! scrapes never has any. These counters include its traffic. They only grow, so `sum(increase(…))`
//! over them misses nothing and counts nothing twice.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use observer_ebpf::abi::Ledger;
use prometheus::{IntCounterVec, Registry};

use super::registry::counters;
use crate::{
    accounts::Protocol,
    flow::{Direction, Traffic},
    record::Subject,
    tasks::Attribute,
};

const BY_SERVICE: [&str; 6] =
    ["cluster", "service", "family", "network_mode", "direction", "protocol"];
/// The first labels of [`BY_SERVICE`], and the attributes with their values.
const SERVICE: [Attribute; 4] =
    [Attribute::ClusterName, Attribute::ServiceName, Attribute::Family, Attribute::NetworkMode];
/// Maximum number of services with series of their own. It bounds the series of hosts whose tasks
/// each have another family.
const MAX_SERVICES: usize = 2000;
/// Label values of all further services.
const OTHERS: [&str; 4] = ["other"; 4];

/// Counters of the host, over all interfaces since the start.
#[derive(Debug)]
pub(super) struct Totals {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    seen_packets: IntCounterVec,
    seen_bytes: IntCounterVec,
    stopped_packets: IntCounterVec,
    stopped_bytes: IntCounterVec,
    dropped_packets: IntCounterVec,
    dropped_bytes: IntCounterVec,
    services: Mutex<BTreeSet<[String; 4]>>,
}

impl Totals {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counter = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let totals = Self {
            packets: counter(
                "observer_packets_total",
                "Packets in records, as on the wire, of all tasks since the start.",
                &BY_SERVICE,
            )?,
            bytes: counter(
                "observer_bytes_total",
                "Layer-3 bytes in records, of all tasks since the start.",
                &BY_SERVICE,
            )?,
            seen_packets: counter(
                "observer_seen_packets_total",
                "IP packets that crossed observed interfaces, as on the wire.",
                &["direction"],
            )?,
            seen_bytes: counter(
                "observer_seen_bytes_total",
                "Layer-3 bytes of the IP packets that crossed observed interfaces.",
                &["direction"],
            )?,
            stopped_packets: counter(
                "observer_stopped_packets_total",
                "IP packets dropped by host policy before the hook; in records, but not in \
                 observer_seen_packets_total.",
                &["direction"],
            )?,
            stopped_bytes: counter(
                "observer_stopped_bytes_total",
                "Layer-3 bytes of the packets dropped by host policy before the hook.",
                &["direction"],
            )?,
            dropped_packets: counter(
                "observer_dropped_packets_total",
                "Packets of observed interfaces that the kernel dropped before or after the hook, by its reason.",
                &["direction", "reason"],
            )?,
            dropped_bytes: counter(
                "observer_dropped_bytes_total",
                "Layer-3 bytes of these packets.",
                &["direction", "reason"],
            )?,
            services: Mutex::default(),
        };
        for direction in Direction::ALL {
            totals.ledger_grew(direction, &Ledger::default());
        }
        Ok(totals)
    }

    /// Adds recorded traffic of an interface.
    pub(super) fn recorded(
        &self,
        subject: &Subject,
        direction: Direction,
        protocol: Protocol,
        by: Traffic,
    ) {
        let names = SERVICE.map(|attribute| subject.identity.get(attribute).unwrap_or(""));
        let [cluster, service, family, mode] =
            if self.has_own_series(names) { names } else { OTHERS };
        let labels = [cluster, service, family, mode, direction.as_str(), protocol.as_str()];
        self.packets.with_label_values(&labels).inc_by(by.packets);
        self.bytes.with_label_values(&labels).inc_by(by.bytes);
    }

    fn has_own_series(&self, names: [&str; 4]) -> bool {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let names = names.map(str::to_owned);
        services.contains(&names) || services.len() < MAX_SERVICES && services.insert(names)
    }

    /// Adds the growth of the kernel's ledger of an interface and direction.
    pub(super) fn ledger_grew(&self, direction: Direction, by: &Ledger) {
        let labels = [direction.as_str()];
        self.seen_packets.with_label_values(&labels).inc_by(by.packets);
        self.seen_bytes.with_label_values(&labels).inc_by(by.bytes);
        self.stopped_packets.with_label_values(&labels).inc_by(by.stopped.packets);
        self.stopped_bytes.with_label_values(&labels).inc_by(by.stopped.bytes);
    }

    /// Adds traffic of an interface that the kernel dropped.
    pub(super) fn dropped(&self, direction: Direction, reason: &str, by: Traffic) {
        let labels = [direction.as_str(), reason];
        self.dropped_packets.with_label_values(&labels).inc_by(by.packets);
        self.dropped_bytes.with_label_values(&labels).inc_by(by.bytes);
    }
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector as _;

    use super::*;

    #[test]
    fn services_beyond_the_limit_share_their_series() {
        let totals = Totals::new(&Registry::new()).unwrap();
        let family = |number: usize| {
            let name = format!("batch-{number}");
            ["", "", &name, ""].map(str::to_owned)
        };
        for number in 0..MAX_SERVICES {
            assert!(totals.has_own_series(family(number).each_ref().map(String::as_str)));
        }
        assert!(!totals.has_own_series(family(MAX_SERVICES).each_ref().map(String::as_str)));
        assert!(totals.has_own_series(family(0).each_ref().map(String::as_str)));
        assert_eq!(totals.packets.collect().len(), 1);
    }
}
