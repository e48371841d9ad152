//! Frames that no socket would send: each is recorded as far as possible, or counted with a reason.

mod cases;

use std::collections::BTreeMap;

use anyhow::Result;
use observer_tests::{
    books::Books,
    hook::Hook,
    lab,
    lab::Lab,
    tally::{Crossed, Direction, Tally},
    traffic::PacketSocket,
    veth::Interface,
};

use self::cases::{
    Case, Cases,
    Fate::{Flow, Lost, NonIp, Unseen},
    ipv4_cases, ipv6_cases, link_cases, twin_cases,
};

/// Sums of all cases at one end.
#[derive(Debug, Default, PartialEq, Eq)]
struct Totals {
    seen: Tally,
    frames: Tally,
    lost: BTreeMap<&'static str, Tally>,
    non_ip: BTreeMap<&'static str, u64>,
    notes: BTreeMap<&'static str, u64>,
}

fn totals(cases: &[Case], direction: Direction, times: u64) -> Totals {
    let mut totals = Totals::default();
    for case in cases {
        let mut len = case.frame.len() as u64;
        let fate = match direction {
            Direction::Egress => case.egress,
            Direction::Ingress => {
                len -= if case.tagged { 4 } else { 0 };
                case.ingress
            }
        };
        if fate != Unseen {
            totals.frames += Tally::of(times, len);
        }
        match fate {
            Flow(_, _, bytes, note) => {
                totals.seen += Tally::of(times, bytes);
                if let Some(note) = note {
                    *totals.notes.entry(note).or_default() += times;
                }
            }
            Lost(reason, bytes) => {
                totals.seen += Tally::of(times, bytes);
                *totals.lost.entry(reason).or_default() += Tally::of(times, bytes);
            }
            NonIp(kind) => *totals.non_ip.entry(kind).or_default() += times,
            Unseen => {}
        }
    }
    totals
}

/// Sends every case `times` between two observed ends, and compares records and metrics with the
/// expected outcomes.
fn check(
    lab: &Lab,
    times: u64,
    by: impl FnOnce(&Interface, &[Vec<u8>]) -> Result<Tally>,
) -> Result<()> {
    let task = lab.observed_pair()?;
    let daemon = lab.daemon().start()?;
    let mut cases = Cases::default();
    ipv4_cases(&mut cases);
    ipv6_cases(&mut cases);
    twin_cases(&mut cases);
    link_cases(&mut cases);
    let Cases(mut cases) = cases;
    if daemon.hook() != Hook::Tc {
        // XDP runs before the kernel removes tags.
        for case in &mut cases {
            (case.ingress, case.tagged) = (case.egress, false);
        }
    }
    let frames: Vec<Vec<u8>> =
        (0..times).flat_map(|_| cases.iter().map(|case| case.frame.clone())).collect();
    let (sender, receiver) = (&task.inside, &task.outside);
    let sent = by(sender, &frames)?;
    assert_eq!(sent.packets, times * cases.len() as u64, "frames sent");
    // The receiver's hook and its interface counters differ: see `Unseen` and `tagged`.
    let books = Books::close(daemon, [sender])?;

    for (interface, direction) in [(sender, Direction::Egress), (receiver, Direction::Ingress)] {
        check_flows(&books, interface, direction, &cases, times);
        let totals = totals(&cases, direction, times);
        let seen = match direction {
            Direction::Egress => Crossed::egress(totals.seen),
            Direction::Ingress => Crossed::ingress(totals.seen),
        };
        books.assert_conserved(interface, seen);
        let ledger = books.ledger(interface)[direction as usize];
        assert_eq!(ledger.frames, totals.frames, "{direction}: frames");
        check_reasons(&books, interface, direction, &totals);
    }
    check_kinds(&books, &cases, times);
    Ok(())
}

/// Checks that the records have exactly the expected flows.
fn check_flows(
    books: &Books,
    interface: &Interface,
    direction: Direction,
    cases: &[Case],
    times: u64,
) {
    let mut flows = books.records.flows(interface.mac());
    for case in cases {
        let fate = if direction == Direction::Egress { case.egress } else { case.ingress };
        let mut matching = flows.extract_if(.., |(_, flow), _| flow.source == case.source);
        let found = matching.next();
        let found = found.map(|((way, flow), sum)| {
            assert_eq!(way, direction, "{}", case.what);
            (flow.protocol, (flow.source_port, flow.destination_port), sum.tally)
        });
        let expected = match fate {
            Flow(protocol, ports, bytes, _) => Some((protocol, ports, Tally::of(times, bytes))),
            Lost(..) | NonIp(_) | Unseen => None,
        };
        assert_eq!(found, expected, "{direction} of {}: recorded, and expected", case.what);
        assert_eq!(matching.next(), None, "{direction} of {}: a second flow", case.what);
    }
    assert!(flows.is_empty(), "{direction}: flows of no case: {flows:#?}");
}

fn check_reasons(books: &Books, interface: &Interface, direction: Direction, totals: &Totals) {
    let id = books.metrics.info(interface).map_or("", |info| info.label("interface"));
    for reason in [
        "table_full",
        "ip_truncated",
        "ip_version",
        "ip_header_length",
        "ip_total_length",
        "internal",
    ] {
        let labels = [("interface", id), ("direction", direction.as_str()), ("reason", reason)];
        let told = Tally::new(
            books.metrics.sum("observer_interface_lost_packets_total", &labels),
            books.metrics.sum("observer_interface_lost_bytes_total", &labels),
        );
        assert_eq!(
            told,
            totals.lost.get(reason).copied().unwrap_or_default(),
            "{direction}: lost, {reason}"
        );
    }
}

/// Checks the metrics that have no interface label.
fn check_kinds(books: &Books, cases: &[Case], times: u64) {
    let ends = Direction::ALL.map(|direction| totals(cases, direction, times));
    let both = |of: fn(&Totals) -> &BTreeMap<&'static str, u64>, key| -> u64 {
        ends.iter().filter_map(|totals| of(totals).get(key)).sum()
    };
    for kind in ["arp", "other", "vlan_depth", "short"] {
        let told = books.metrics.sum("observer_non_ip_frames_total", &[("kind", kind)]);
        assert_eq!(
            told,
            both(|totals| &totals.non_ip, kind),
            "observer_non_ip_frames_total, {kind}"
        );
    }
    for note in ["transport_truncated", "extension_truncated", "extension_limit", "later_fragment"]
    {
        let told = books.metrics.sum("observer_notes_packets_total", &[("note", note)]);
        assert_eq!(
            told,
            both(|totals| &totals.notes, note),
            "observer_notes_packets_total, {note}"
        );
    }
}

#[test]
fn every_frame_is_recorded_or_counted_by_reason() -> Result<()> {
    let lab = lab!();
    check(&lab, 3, |sender, frames| PacketSocket::open(sender)?.send(frames))
}

#[test]
fn a_frame_whose_headers_are_not_linear_says_the_same() -> Result<()> {
    let lab = lab!();
    check(&lab, 2, |sender, frames| PacketSocket::open(sender)?.send_not_linear(frames))
}
