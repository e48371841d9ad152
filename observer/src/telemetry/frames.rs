//! Metrics of frames that the kernel programs treated specially.

use observer_ebpf::abi::{Ledger, NonIpKind, Note};
use prometheus::{IntCounter, IntCounterVec, Registry};

use super::registry::{counter, counters};

#[derive(Debug)]
pub(super) struct FrameMetrics {
    non_ip: IntCounterVec,
    notes: IntCounterVec,
    copied: IntCounter,
}

impl FrameMetrics {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            non_ip: counters(
                registry,
                "observer_non_ip_frames_total",
                "Frames without an IP packet, which VPC Flow Logs do not record.",
                &["kind"],
            )?,
            notes: counters(
                registry,
                "observer_notes_packets_total",
                "Recorded packets with truncated or unreadable headers, or without their first fragment.",
                &["note"],
            )?,
            copied: counter(
                registry,
                "observer_copied_frames_total",
                "Frames whose headers were copied before parsing: non-linear buffers, unusual headers or super-packets.",
            )?,
        };
        metrics.ledger_grew(&Ledger::default());
        Ok(metrics)
    }

    pub(super) fn ledger_grew(&self, by: &Ledger) {
        for kind in NonIpKind::ALL {
            self.non_ip.with_label_values(&[kind.as_str()]).inc_by(by.non_ip[kind as usize]);
        }
        for note in Note::ALL {
            self.notes.with_label_values(&[note.as_str()]).inc_by(by.notes[note as usize]);
        }
        self.copied.inc_by(by.copied);
    }
}
