//! The report of a replay: the fate of every packet of a capture.

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

/// Counts of a replay.
///
/// `packets` = `recorded.captured` + the packets of `lost` + `non_ip` + `no_direction` + `no_time`
/// + `other_link`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    /// Name of the capture.
    pub(super) capture: String,
    /// Packets read from the capture.
    pub(super) packets: u64,
    /// Of these, packets that were captured in part.
    pub(super) cut: u64,
    /// Packets that the capturing program reports as lost.
    pub(super) dropped_by_capture: u64,
    /// Number of interfaces with packets.
    pub(super) interfaces: usize,
    /// Time of the earliest packet, in UNIX milliseconds.
    pub(super) first_ms: Option<i64>,
    /// Time of the latest packet, in UNIX milliseconds.
    pub(super) last_ms: Option<i64>,
    /// Packets and bytes in records.
    pub(super) recorded: Recorded,
    /// Packets in no record because their IP header is invalid, by reason.
    pub(super) lost: BTreeMap<&'static str, Traffic>,
    /// Packets without an IP header, by kind.
    pub(super) non_ip: BTreeMap<&'static str, u64>,
    /// Packets in no record because neither end is local.
    pub(super) no_direction: u64,
    /// Packets in no record because the capture gives no time.
    pub(super) no_time: u64,
    /// Packets in no record because their link type is not supported, by number and name.
    pub(super) other_link: BTreeMap<String, u64>,
    /// Packets recorded as egress because both ends are local.
    pub(super) both_local: u64,
    /// Packets of `lost` and `non_ip` that are too short for a test run of the kernel. The parser
    /// of the programs, compiled into this process, gave the reason.
    pub(super) refused: u64,
    /// Recorded packets with incomplete information, by note.
    pub(super) notes: BTreeMap<&'static str, u64>,
    /// Recorded packets that were several on the wire.
    pub(super) super_packets: SuperPackets,
    /// Windows that were already closed when more packets for them followed. Their flows have
    /// several records.
    pub(super) reopened_windows: u64,
}

/// Packets and bytes in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Recorded {
    /// Packets as in the capture.
    pub(super) captured: u64,
    /// Packets as on the wire.
    pub(super) packets: u64,
    /// Bytes of layer 3.
    pub(super) bytes: u64,
    /// Number of records, for one output.
    pub(super) records: u64,
}

/// Packets that were several on the wire, by the origin of the segment size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct SuperPackets {
    /// Segment size by the MSS of the connection. Exact, unless a router lowered the MSS.
    pub(super) by_mss: u64,
    /// Segment size by the MTU: a guess.
    pub(super) by_mtu: u64,
    /// Longer than the MTU, and recorded as one packet.
    pub(super) jumbo: u64,
    /// Largest MTU that was used.
    pub(super) mtu: u32,
}

impl Report {
    /// Extends the time range of the capture.
    pub(super) fn at(&mut self, unix_ms: i64) {
        self.first_ms = Some(self.first_ms.map_or(unix_ms, |first| first.min(unix_ms)));
        self.last_ms = self.last_ms.max(Some(unix_ms));
    }

    /// Counts a packet that is too short for a test run. Returns the traffic that is lost.
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
            // The parser returns this for fragmented buffers only.
            Skip::Chain => None,
        }
    }

    /// Completes the counts by the ledgers of the programs, which were run on `run` packets.
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

    /// The report as JSON, on one line.
    pub(super) fn to_json(&self) -> String {
        // Strings and numbers always serialise.
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
        let mut line = |count: u64, text: &str, more: String| -> fmt::Result {
            if count == 0 { Ok(()) } else { writeln!(f, "{count:>12} {text}{more}") }
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
        let of = |counts: &BTreeMap<&'static str, u64>| {
            listed(counts.iter().map(|(name, count)| (*name, *count)))
        };
        line(self.non_ip.values().sum(), "not IP", of(&self.non_ip))?;
        line(self.no_direction, "in no record: neither end is local", String::new())?;
        line(self.no_time, "in no record: the capture gives no time", String::new())?;
        let others = self.other_link.iter().map(|(name, count)| (name.as_str(), *count));
        line(
            self.other_link.values().sum(),
            "in no record: link types that are not read",
            listed(others),
        )?;
        line(self.both_local, "recorded as egress: both ends are local", String::new())?;
        line(
            self.cut,
            "cut by the capture: their lengths count, their missing headers do not",
            String::new(),
        )?;
        line(
            self.dropped_by_capture,
            "not in the capture, which reports them as missed",
            String::new(),
        )?;
        line(self.notes.values().sum(), "recorded in part", of(&self.notes))?;
        let SuperPackets { by_mss, by_mtu, jumbo, mtu } = self.super_packets;
        line(
            by_mss,
            "super-packets, of segments as large as their connection agreed on",
            String::new(),
        )?;
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

/// Formats a count with a noun: `1 packet`, `2 packets`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Formats counts by name: `: arp 12, other 3`.
fn listed<'a>(counts: impl Iterator<Item = (&'a str, u64)>) -> String {
    counts.fold(String::new(), |mut text, (name, count)| {
        let separator = if text.is_empty() { ": " } else { ", " };
        // Writing to a `String` never fails.
        let _ = write!(text, "{separator}{name} {count}");
        text
    })
}

fn time(unix_ms: i64) -> Timestamp {
    Timestamp::from_millisecond(unix_ms).unwrap_or_default()
}
