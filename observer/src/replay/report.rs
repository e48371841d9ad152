//! What became of every packet of a capture.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use jiff::Timestamp;
use observer_ebpf::{
    abi::{Ledger, LossReason, NonIpKind, Note},
    packet::{Skip, Wire},
};
use serde::Serialize;

use crate::flow::Traffic;

/// The account of a replay.
///
/// `packets` = `recorded.captured` + the packets of `lost` + `non_ip` + `no_direction` + `no_time` +
/// `other_link`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// The capture.
    pub(super) capture: String,
    /// Packets that were read from it.
    pub(super) packets: u64,
    /// Of these, packets of which it holds only the beginning.
    pub(super) cut: u64,
    /// Packets that the capture says it missed.
    pub(super) dropped_by_capture: u64,
    /// Interfaces with packets.
    pub(super) interfaces: usize,
    /// Time of the earliest packet, in UNIX milliseconds.
    pub(super) first_ms: Option<i64>,
    /// Time of the latest packet, likewise.
    pub(super) last_ms: Option<i64>,
    /// What is in records.
    pub(super) recorded: Recorded,
    /// Packets that are in no record, because their IP header is unsound, by reason.
    pub(super) lost: BTreeMap<&'static str, Traffic>,
    /// Packets that carry no IP, by kind.
    pub(super) non_ip: BTreeMap<&'static str, u64>,
    /// Packets of which neither end is local.
    pub(super) no_direction: u64,
    /// Packets without a time.
    pub(super) no_time: u64,
    /// Packets of interfaces whose link type is not read, by its name.
    pub(super) other_link: BTreeMap<String, u64>,
    /// Packets of which both ends are local, recorded as egress.
    pub(super) both_local: u64,
    /// Packets of `lost` and `non_ip` that the kernel did not take for a run: the parser that was built into it said
    /// why, outside of the kernel.
    pub(super) refused: u64,
    /// Recorded packets about which something could not be told, by note.
    pub(super) notes: BTreeMap<&'static str, u64>,
    /// Recorded packets that stand for several on the wire.
    pub(super) super_packets: SuperPackets,
    /// Windows that were closed when more packets for them came: their flows have several records.
    pub(super) reopened_windows: u64,
}

/// What is in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recorded {
    /// Packets of the capture.
    pub(super) captured: u64,
    /// Packets as on the wire.
    pub(super) packets: u64,
    /// Their bytes of layer 3.
    pub(super) bytes: u64,
    /// Records, once per output.
    pub(super) records: u64,
}

/// Packets that stand for several on the wire, by how it is known for how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct SuperPackets {
    /// By the segment size on which the connection agreed. Exact, where nothing on the way lowers it.
    pub(super) by_mss: u64,
    /// By the MTU: a guess.
    pub(super) by_mtu: u64,
    /// Longer than the MTU, and taken for one packet.
    pub(super) jumbo: u64,
    /// The largest MTU by which that was decided.
    pub(super) mtu: u32,
}

impl Report {
    /// A packet with a time.
    pub(super) fn at(&mut self, unix_ms: i64) {
        self.first_ms = Some(self.first_ms.map_or(unix_ms, |first| first.min(unix_ms)));
        self.last_ms = self.last_ms.max(Some(unix_ms));
    }

    /// A packet that the kernel did not take, for which this is the reason.
    pub(super) fn refuse(&mut self, skip: Skip) -> Option<Wire> {
        self.refused += 1;
        match skip {
            Skip::Lost(reason, wire) => {
                let lost = Traffic { packets: wire.packets.into(), bytes: wire.bytes };
                *self.lost.entry(reason.as_str()).or_default() += lost;
                Some(wire)
            }
            Skip::NonIp(kind) => {
                *self.non_ip.entry(kind.as_str()).or_default() += 1;
                None
            }
            // Never said by a reader of slices.
            Skip::Chain => None,
        }
    }

    /// Completes the account by the programs' own: `run` packets were handed to them.
    pub(super) fn complete(&mut self, run: u64, ledgers: impl IntoIterator<Item = Ledger>) {
        let all = ledgers.into_iter().fold(Ledger::default(), |all, ledger| all.plus(&ledger));
        self.recorded.captured = run;
        for reason in LossReason::ALL {
            let lost = all.lost[reason as usize];
            if lost.packets != 0 {
                *self.lost.entry(reason.as_str()).or_default() += lost.into();
                self.recorded.captured -= lost.packets;
            }
        }
        for kind in NonIpKind::ALL {
            let frames = all.non_ip[kind as usize];
            if frames != 0 {
                *self.non_ip.entry(kind.as_str()).or_default() += frames;
                self.recorded.captured -= frames;
            }
        }
        let notes = Note::ALL.into_iter().map(|note| (note.as_str(), all.notes[note as usize]));
        self.notes = notes.filter(|(_, packets)| *packets != 0).collect();
    }

    /// On one line of JSON.
    pub(super) fn to_json(&self) -> String {
        // Strings and numbers only: this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capture = self.capture.replace(char::is_control, "_");
        write!(f, "{capture}: {}", counted(self.packets, "packet"))?;
        if let (Some(first), Some(last)) = (self.first_ms, self.last_ms) {
            let interfaces = counted(self.interfaces as u64, "interface");
            write!(f, " on {interfaces}, {} to {}", time(first), time(last))?;
        }
        writeln!(f)?;
        let mut line = |count: u64, what: &str, more: String| -> fmt::Result {
            if count == 0 { Ok(()) } else { writeln!(f, "{count:>12} {what}{more}") }
        };
        let Recorded { captured, packets, bytes, records } = self.recorded;
        line(
            captured,
            "recorded",
            format!(
                ": {} on the wire, {bytes} bytes, {}",
                counted(packets, "packet"),
                counted(records, "record")
            ),
        )?;
        let lost = self.lost.values().map(|lost| lost.packets).sum();
        line(lost, "lost", listed(self.lost.iter().map(|(reason, lost)| (*reason, lost.packets))))?;
        let of =
            |counts: &BTreeMap<&'static str, u64>| listed(counts.iter().map(|(name, count)| (*name, *count)));
        line(self.non_ip.values().sum(), "not IP", of(&self.non_ip))?;
        line(self.no_direction, "in no record: neither end is local", String::new())?;
        line(self.no_time, "in no record: the capture says no time", String::new())?;
        let others = self.other_link.iter().map(|(name, count)| (name.as_str(), *count));
        line(self.other_link.values().sum(), "in no record: link types that are not read", listed(others))?;
        line(self.both_local, "recorded as egress: both ends are local", String::new())?;
        line(
            self.cut,
            "cut by the capture: their lengths count, their missing headers do not",
            String::new(),
        )?;
        line(self.dropped_by_capture, "not in the capture, which says that it missed them", String::new())?;
        line(self.notes.values().sum(), "recorded in part", of(&self.notes))?;
        let SuperPackets { by_mss, by_mtu, jumbo, mtu } = self.super_packets;
        line(by_mss, "super-packets, of segments as large as their connection agreed on", String::new())?;
        let guess = format!(" {mtu} (a guess: give --mtu, or capture with offloads off)");
        line(by_mtu, "super-packets, of segments as large as the MTU of", guess)?;
        line(jumbo, "longer than the MTU of", format!(" {mtu}, recorded as one packet each"))?;
        line(
            self.reopened_windows,
            "windows in several parts: their packets came out of order",
            String::new(),
        )
    }
}

/// `1 packet`, `2 packets`
fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `: arp 12, other 3`
fn listed<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    counts.fold(String::new(), |mut text, (name, count)| {
        let separator = if text.is_empty() { ": " } else { ", " };
        // A String takes every write.
        let _ = write!(text, "{separator}{name} {count}");
        text
    })
}

fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or_default()
}
