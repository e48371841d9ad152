//! Metrics of packets that no record holds, by stage and reason of the loss.

use observer_ebpf::abi::LossReason;
use prometheus::{IntCounterVec, Registry};

use super::{
    labels::{ATTACH, KERNEL, SINK, WINDOW, WINDOW_FULL},
    registry::counters,
};
use crate::{accounts::Uncounted, flow::Traffic, sink::SinkLoss};

#[derive(Debug)]
pub(super) struct LossMetrics {
    packets: IntCounterVec,
    bytes: IntCounterVec,
}

impl LossMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            packets: counters(
                registry,
                "observer_lost_packets_total",
                "Packets that crossed an observed interface, or were stopped before it, and are in no record.",
                &["stage", "reason"],
            )?,
            bytes: counters(
                registry,
                "observer_lost_bytes_total",
                "Layer-3 bytes of the packets that are in no record.",
                &["stage", "reason"],
            )?,
        };
        let kernel = LossReason::ALL.map(|reason| (KERNEL, reason.as_str()));
        let attach = Uncounted::ALL.map(|reason| (ATTACH, reason.as_str()));
        let sink = SinkLoss::ALL.map(|reason| (SINK, reason.as_str()));
        for (stage, reason) in
            kernel.into_iter().chain(attach).chain(sink).chain([(WINDOW, WINDOW_FULL)])
        {
            metrics.add(stage, reason, Traffic::NONE);
        }
        Ok(metrics)
    }

    pub(super) fn add(&self, stage: &str, reason: &str, lost: Traffic) {
        self.packets.with_label_values(&[stage, reason]).inc_by(lost.packets);
        self.bytes.with_label_values(&[stage, reason]).inc_by(lost.bytes);
    }
}
