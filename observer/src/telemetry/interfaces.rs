//! Series of single interfaces, created at each scrape from the last tick.
//!
//! A task name that becomes known late thus changes the labels of earlier counts too, and the
//! series of an interface end with it. Sums that outlive an interface are in
//! [`totals`](super::totals).

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
    /// Sums of the interface's account.
    pub figures: Figures,
    /// Packets dropped by the kernel, by direction and reason.
    pub dropped: Vec<Dropped>,
}

/// Counts of the last tick.
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

/// Collector of the series. Its families are empty; each scrape fills new ones.
#[derive(Debug)]
pub(super) struct InterfaceCollector {
    shared: Arc<Shared>,
    descriptions: Vec<Desc>,
}

/// Names and help of a counter of packets and a counter of their bytes.
struct Definition {
    packets: [&'static str; 2],
    bytes: [&'static str; 2],
    labels: &'static [&'static str],
}

const RECORDED: Definition = Definition {
    packets: [
        "observer_interface_recorded_packets_total",
        "Packets of the interface in records, as on the wire.",
    ],
    bytes: [
        "observer_interface_recorded_bytes_total",
        "Layer-3 bytes of the interface in records.",
    ],
    labels: &BY_PROTOCOL,
};
const FRAMES: Definition = Definition {
    packets: [
        "observer_interface_frames_total",
        "Socket buffers that crossed the interface; a super-packet counts once.",
    ],
    bytes: [
        "observer_interface_frame_bytes_total",
        "Bytes of the socket buffers that crossed the interface, with link headers.",
    ],
    labels: &BY_DIRECTION,
};
const SEEN: Definition = Definition {
    packets: [
        "observer_interface_packets_total",
        "IP packets that crossed the interface, as on the wire.",
    ],
    bytes: [
        "observer_interface_bytes_total",
        "Layer-3 bytes of the IP packets that crossed the interface.",
    ],
    labels: &BY_DIRECTION,
};
const LOST: Definition = Definition {
    packets: [
        "observer_interface_lost_packets_total",
        "IP packets that crossed the interface and are in no record.",
    ],
    bytes: [
        "observer_interface_lost_bytes_total",
        "Layer-3 bytes of the packets that are in no record.",
    ],
    labels: &BY_REASON,
};
const STOPPED: Definition = Definition {
    packets: [
        "observer_interface_stopped_packets_total",
        "IP packets dropped by host policy before the hook; in records, but not in \
                 observer_interface_packets_total.",
    ],
    bytes: [
        "observer_interface_stopped_bytes_total",
        "Layer-3 bytes of the packets dropped by host policy before the hook.",
    ],
    labels: &BY_DIRECTION,
};
const CARRIED: Definition = Definition {
    packets: [
        "observer_interface_carried_packets_total",
        "Frames in the interface's own counters since it was attached, read every five seconds while it is busy, else once a window. The driver decides whether a super-packet counts as one or as its segments.",
    ],
    bytes: [
        "observer_interface_carried_bytes_total",
        "Bytes in the interface's own counters, with link headers, as the driver counts them.",
    ],
    labels: &BY_DIRECTION,
};
const UNSEEN: Definition = Definition {
    packets: [
        "observer_interface_unseen_packets_total",
        "Lower bound of the frames in observer_interface_carried_packets_total that bypassed the hook.",
    ],
    bytes: [
        "observer_interface_unseen_bytes_total",
        "Lower bound of the bytes of the frames that bypassed the hook, without link headers.",
    ],
    labels: &BY_DIRECTION,
};
const DROPPED: Definition = Definition {
    packets: [
        "observer_interface_dropped_packets_total",
        "Packets that the kernel dropped before or after the hook, by its reason.",
    ],
    bytes: ["observer_interface_dropped_bytes_total", "Layer-3 bytes of the dropped packets."],
    labels: &BY_REASON,
};

/// A counter of packets and a counter of their bytes.
struct Pair {
    packets: IntCounterVec,
    bytes: IntCounterVec,
}

impl Pair {
    fn new(Definition { packets, bytes, labels }: &Definition) -> prometheus::Result<Self> {
        let counter = |[name, help]: [&str; 2]| IntCounterVec::new(Opts::new(name, help), labels);
        Ok(Self { packets: counter(*packets)?, bytes: counter(*bytes)? })
    }

    fn add(&self, labels: &[&str], packets: u64, bytes: u64) {
        self.packets.with_label_values(labels).inc_by(packets);
        self.bytes.with_label_values(labels).inc_by(bytes);
    }
}

/// The series of one scrape.
struct Families {
    recorded: Pair,
    frames: Pair,
    seen: Pair,
    lost: Pair,
    stopped: Pair,
    carried: Pair,
    unseen: Pair,
    dropped: Pair,
    info: IntGaugeVec,
}

impl Families {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            recorded: Pair::new(&RECORDED)?,
            frames: Pair::new(&FRAMES)?,
            seen: Pair::new(&SEEN)?,
            lost: Pair::new(&LOST)?,
            stopped: Pair::new(&STOPPED)?,
            carried: Pair::new(&CARRIED)?,
            unseen: Pair::new(&UNSEEN)?,
            dropped: Pair::new(&DROPPED)?,
            info: info()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = &dyn Collector> {
        let Self { recorded, frames, seen, lost, stopped, carried, unseen, dropped, info } = self;
        let pairs = [recorded, frames, seen, lost, stopped, carried, unseen, dropped];
        let counters = pairs.into_iter().flat_map(|pair| [&pair.packets, &pair.bytes]);
        counters.map(|counter| counter as &dyn Collector).chain([info as &dyn Collector])
    }

    fn add(&self, stats: &InterfaceStats) {
        let InterfaceStats { figures: Figures { id, subject, hook, account, .. }, dropped } = stats;
        for direction in Direction::ALL {
            let side = direction as usize;
            let by_direction = [&**id, direction.as_str()];
            let by_reason = |reason| [&**id, direction.as_str(), reason];
            let ledger = &account.ledger()[side];
            self.frames.add(&by_direction, ledger.frames, ledger.frame_bytes);
            self.seen.add(&by_direction, ledger.packets, ledger.bytes);
            self.stopped.add(&by_direction, ledger.stopped.packets, ledger.stopped.bytes);
            for reason in LossReason::ALL {
                let lost = ledger.lost[reason as usize];
                self.lost.add(&by_reason(reason.as_str()), lost.packets, lost.bytes);
            }
            let carried = account.carried()[side];
            self.carried.add(&by_direction, carried.count, carried.bytes);
            let unseen = account.uncounted().of(Uncounted::Unseen)[side];
            self.unseen.add(&by_direction, unseen.packets, unseen.bytes);
            let uncounted =
                Uncounted::ALL.map(|reason| (reason.as_str(), account.uncounted().of(reason)));
            for (reason, lost) in uncounted.into_iter().chain([(WINDOW_FULL, account.refused())]) {
                self.lost.add(&by_reason(reason), lost[side].packets, lost[side].bytes);
            }
            for protocol in Protocol::ALL {
                let recorded = account.recorded()[side][protocol as usize];
                if recorded.packets > 0 {
                    let by_protocol = [&**id, direction.as_str(), protocol.as_str()];
                    self.recorded.add(&by_protocol, recorded.packets, recorded.bytes);
                }
            }
        }
        for dropped in dropped {
            let by_reason = [&**id, dropped.direction.as_str(), &dropped.reason];
            self.dropped.add(&by_reason, dropped.count.packets, dropped.count.bytes);
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
        info.extend(INFO.map(|(_, attribute)| subject.identity.get(attribute).unwrap_or("")));
        self.info.with_label_values(&info).set(1);
    }
}

fn info() -> prometheus::Result<IntGaugeVec> {
    let mut labels = vec!["interface", "interface_id", "interface_name", "mac", "netns", "hook"];
    labels.extend(INFO.map(|(label, _)| label));
    let help = "The ids behind the label `interface`, and the hook that counts its ingress.";
    IntGaugeVec::new(Opts::new("observer_interface_info", help), &labels)
}

impl InterfaceCollector {
    pub(super) fn new(shared: Arc<Shared>) -> prometheus::Result<Self> {
        let families = Families::new()?;
        let descriptions = families.all().flat_map(|family| family.desc()).cloned().collect();
        Ok(Self { shared, descriptions })
    }
}

impl Collector for InterfaceCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Cannot fail: the same names were accepted when the collector was created.
        let Ok(families) = Families::new() else { return Vec::new() };
        for stats in &*self.shared.0.lock().unwrap_or_else(PoisonError::into_inner) {
            families.add(stats);
        }
        families.all().flat_map(Collector::collect).collect()
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

    /// Name and labels of each line, without the label values.
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
