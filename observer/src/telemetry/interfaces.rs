//! The series of each interface, made anew at every scrape from what the tick left.
//!
//! So a task's name that comes late changes the labels of all that was counted before, and the series of an
//! interface end with it. What is to outlive it is in the [`totals`](super::totals).

use std::sync::{Arc, Mutex, PoisonError};

use observer_ebpf::abi::{Direction, LossReason};
use prometheus::{
    IntCounterVec, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::labels::WINDOW_FULL;
use crate::{
    accounts::{Figures, Protocol, Uncounted},
    kernel::drops::Dropped,
    tasks::Attribute,
};

/// Counts of one interface since it was attached.
#[derive(Clone, Debug)]
pub struct InterfaceStats {
    /// The sums of its account.
    pub figures: Figures,
    /// Drops in the kernel, by direction and reason.
    pub dropped: Vec<Dropped>,
}

/// What the tick left for the next scrape.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Vec<InterfaceStats>>);

impl Shared {
    pub(super) fn set(&self, interfaces: Vec<InterfaceStats>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = interfaces;
    }
}

const BY_PROTOCOL: [&str; 3] = ["interface", "direction", "protocol"];
const BY_DIRECTION: [&str; 2] = ["interface", "direction"];
const BY_REASON: [&str; 3] = ["interface", "direction", "reason"];
const INFO: [(&str, Attribute); 10] = [
    ("cluster", Attribute::ClusterName),
    ("service", Attribute::ServiceName),
    ("family", Attribute::Family),
    ("network_mode", Attribute::NetworkMode),
    ("task_arn", Attribute::TaskArn),
    ("task_id", Attribute::TaskId),
    ("cluster_arn", Attribute::ClusterArn),
    ("account_id", Attribute::AccountId),
    ("vpc_id", Attribute::VpcId),
    ("subnet_id", Attribute::SubnetId),
];

/// The families, empty: filled in a copy at each scrape.
#[derive(Debug)]
pub(super) struct InterfaceCollector {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
}

/// One scrape's worth of series.
struct Families {
    packets: IntCounterVec,
    bytes: IntCounterVec,
    frames: IntCounterVec,
    frame_bytes: IntCounterVec,
    seen_packets: IntCounterVec,
    seen_bytes: IntCounterVec,
    lost_packets: IntCounterVec,
    lost_bytes: IntCounterVec,
    stopped_packets: IntCounterVec,
    stopped_bytes: IntCounterVec,
    carried_packets: IntCounterVec,
    carried_bytes: IntCounterVec,
    unseen_packets: IntCounterVec,
    unseen_bytes: IntCounterVec,
    dropped_packets: IntCounterVec,
    dropped_bytes: IntCounterVec,
    info: IntGaugeVec,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        let counter = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let mut info = vec!["interface", "interface_id", "interface_name", "mac", "netns", "hook"];
        info.extend(INFO.map(|(label, _)| label));
        Ok(Self {
            packets: counter(
                "observer_interface_recorded_packets_total",
                "Packets of the interface in records, as on the wire.",
                &BY_PROTOCOL,
            )?,
            bytes: counter(
                "observer_interface_recorded_bytes_total",
                "Their bytes of layer 3.",
                &BY_PROTOCOL,
            )?,
            frames: counter(
                "observer_interface_frames_total",
                "Socket buffers that crossed the interface, super-packets as one.",
                &BY_DIRECTION,
            )?,
            frame_bytes: counter(
                "observer_interface_frame_bytes_total",
                "Their bytes with link headers.",
                &BY_DIRECTION,
            )?,
            seen_packets: counter(
                "observer_interface_packets_total",
                "IP packets that crossed the interface, as on the wire.",
                &BY_DIRECTION,
            )?,
            seen_bytes: counter("observer_interface_bytes_total", "Their bytes of layer 3.", &BY_DIRECTION)?,
            lost_packets: counter(
                "observer_interface_lost_packets_total",
                "IP packets that crossed the interface and are in no record.",
                &BY_REASON,
            )?,
            lost_bytes: counter(
                "observer_interface_lost_bytes_total",
                "Their bytes of layer 3.",
                &BY_REASON,
            )?,
            stopped_packets: counter(
                "observer_interface_stopped_packets_total",
                "IP packets that the host's policy dropped before they reached the hook: in records, and not among \
                 observer_interface_packets_total.",
                &BY_DIRECTION,
            )?,
            stopped_bytes: counter(
                "observer_interface_stopped_bytes_total",
                "Their bytes of layer 3.",
                &BY_DIRECTION,
            )?,
            carried_packets: counter(
                "observer_interface_carried_packets_total",
                "Frames by the interface's own counters since it was attached, read every five seconds while it is \
                 busy, else once a window. A super-packet counts as one or as its segments, as the driver pleases.",
                &BY_DIRECTION,
            )?,
            carried_bytes: counter(
                "observer_interface_carried_bytes_total",
                "Their bytes with link headers, as the driver counts them.",
                &BY_DIRECTION,
            )?,
            unseen_packets: counter(
                "observer_interface_unseen_packets_total",
                "Frames among observer_interface_carried_packets_total that certainly passed the hook by: at least so \
                 many.",
                &BY_DIRECTION,
            )?,
            unseen_bytes: counter(
                "observer_interface_unseen_bytes_total",
                "Their bytes without link headers: at least so many.",
                &BY_DIRECTION,
            )?,
            dropped_packets: counter(
                "observer_interface_dropped_packets_total",
                "Packets that the kernel dropped, by its own reason, on either side of the hook.",
                &BY_REASON,
            )?,
            dropped_bytes: counter(
                "observer_interface_dropped_bytes_total",
                "Their bytes of layer 3.",
                &BY_REASON,
            )?,
            info: IntGaugeVec::new(
                Opts::new(
                    "observer_interface_info",
                    "The ids behind the label `interface`, and the hook that counts its ingress.",
                ),
                &info,
            )?,
        })
    }

    fn all(&self) -> [&dyn Collector; 17] {
        [
            &self.packets,
            &self.bytes,
            &self.frames,
            &self.frame_bytes,
            &self.seen_packets,
            &self.seen_bytes,
            &self.lost_packets,
            &self.lost_bytes,
            &self.stopped_packets,
            &self.stopped_bytes,
            &self.carried_packets,
            &self.carried_bytes,
            &self.unseen_packets,
            &self.unseen_bytes,
            &self.dropped_packets,
            &self.dropped_bytes,
            &self.info,
        ]
    }

    fn add(&self, stats: &InterfaceStats) {
        let InterfaceStats { figures: Figures { id, subject, hook, account, .. }, dropped } = stats;
        let known = |attribute| subject.identity.get(attribute).unwrap_or("");
        for direction in Direction::ALL {
            let ledger = &account.ledger()[direction as usize];
            let by_direction = [&**id, direction.as_str()];
            self.frames.with_label_values(&by_direction).inc_by(ledger.frames);
            self.frame_bytes.with_label_values(&by_direction).inc_by(ledger.frame_bytes);
            self.seen_packets.with_label_values(&by_direction).inc_by(ledger.packets);
            self.seen_bytes.with_label_values(&by_direction).inc_by(ledger.bytes);
            self.stopped_packets.with_label_values(&by_direction).inc_by(ledger.stopped.packets);
            self.stopped_bytes.with_label_values(&by_direction).inc_by(ledger.stopped.bytes);
            for reason in LossReason::ALL {
                let lost = ledger.lost[reason as usize];
                let by_reason = [&**id, direction.as_str(), reason.as_str()];
                self.lost_packets.with_label_values(&by_reason).inc_by(lost.packets);
                self.lost_bytes.with_label_values(&by_reason).inc_by(lost.bytes);
            }
            let carried = account.carried()[direction as usize];
            self.carried_packets.with_label_values(&by_direction).inc_by(carried.count);
            self.carried_bytes.with_label_values(&by_direction).inc_by(carried.bytes);
            let unseen = account.uncounted().of(Uncounted::Unseen)[direction as usize];
            self.unseen_packets.with_label_values(&by_direction).inc_by(unseen.packets);
            self.unseen_bytes.with_label_values(&by_direction).inc_by(unseen.bytes);
            let uncounted = Uncounted::ALL.map(|reason| (reason.as_str(), account.uncounted().of(reason)));
            for (reason, lost) in uncounted.into_iter().chain([(WINDOW_FULL, account.refused())]) {
                let lost = lost[direction as usize];
                let by_reason = [&**id, direction.as_str(), reason];
                self.lost_packets.with_label_values(&by_reason).inc_by(lost.packets);
                self.lost_bytes.with_label_values(&by_reason).inc_by(lost.bytes);
            }
            for protocol in Protocol::ALL {
                let recorded = account.recorded()[direction as usize][protocol as usize];
                if recorded.packets == 0 {
                    continue;
                }
                let by_protocol = [&**id, direction.as_str(), protocol.as_str()];
                self.packets.with_label_values(&by_protocol).inc_by(recorded.packets);
                self.bytes.with_label_values(&by_protocol).inc_by(recorded.bytes);
            }
        }
        for dropped in dropped {
            let by_reason = [&**id, dropped.direction.as_str(), &dropped.reason];
            self.dropped_packets.with_label_values(&by_reason).inc_by(dropped.count.packets);
            self.dropped_bytes.with_label_values(&by_reason).inc_by(dropped.count.bytes);
        }
        let netns = subject.netns.to_string();
        let mut info = vec![
            &**id,
            &*subject.interface_id,
            &*subject.interface_name,
            &*subject.mac,
            &netns,
            hook,
        ];
        info.extend(INFO.map(|(_, attribute)| known(attribute)));
        self.info.with_label_values(&info).set(1);
    }
}

impl InterfaceCollector {
    pub(super) fn new(shared: Arc<Shared>) -> prometheus::Result<Self> {
        let families = Families::new()?;
        let descriptions = families.all().iter().flat_map(|family| family.desc()).cloned().collect();
        Ok(Self { shared, descriptions })
    }
}

impl Collector for InterfaceCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // The names were accepted when the collector was made.
        let Ok(families) = Families::new() else { return Vec::new() };
        for stats in &*self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) {
            families.add(stats);
        }
        families.all().iter().flat_map(|family| family.collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fastrand::Rng;
    use prometheus::{Registry, TextEncoder};

    use super::*;
    use crate::{
        accounts::Account,
        flow::Traffic,
        record::{Batch, hostile},
    };

    fn page(batch: &Batch) -> String {
        let shared = Arc::new(Shared::default());
        let registry = Registry::new();
        registry.register(Box::new(InterfaceCollector::new(Arc::clone(&shared)).unwrap())).unwrap();
        let stats = batch.subjects.iter().map(|(number, subject)| {
            let mut account = Account::default();
            for (direction, protocol) in [(Direction::Ingress, 6), (Direction::Egress, 17)] {
                account.record(direction, protocol, Traffic { packets: 1, bytes: 1 });
            }
            let (id, subject) = (number.get().to_string().into(), Arc::clone(subject));
            let figures = Figures { number: *number, id, subject, hook: "tcx", account };
            InterfaceStats { figures, dropped: Vec::new() }
        });
        shared.set(stats.collect());
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    /// Name and labels of each line, without the values of labels.
    fn shape(page: &str) -> BTreeSet<(usize, String)> {
        let mut shape = BTreeSet::new();
        for (number, line) in page.split('\n').enumerate() {
            let (mut kept, mut quoted, mut escaped) = (String::new(), false, false);
            for c in line.chars() {
                match c {
                    '"' if !escaped => quoted = !quoted,
                    _ if !quoted => kept.push(c),
                    _ => {}
                }
                escaped = quoted && c == '\\' && !escaped;
            }
            assert!(!quoted, "{line:?}");
            shape.insert((number, kept));
        }
        shape
    }

    #[test]
    fn lines_and_labels_of_the_page_do_not_depend_on_values() {
        for seed in 0..100 {
            let (hostile, plain) = hostile::windows(&mut Rng::with_seed(seed));
            assert_eq!(shape(&page(&hostile)), shape(&page(&plain)), "seed {seed}");
        }
    }
}
