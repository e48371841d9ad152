//! The corpus as captures: a replay gives the same result as the parser for each packet.

#[path = "../../packets/mod.rs"]
mod packets;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use observer_ebpf::packet::{Frame, Link};
use observer_tests::{
    capture::{Description, ETHERNET, Order, Packet, pcap, pcapng},
    lab,
    lab::Lab,
    records::{Record, Status},
    tally::{Direction, Tally},
};

use self::packets::{Input, Outcome, Sample, corpus, reference};
use super::{BEGIN, Replayed, SECOND, replay};

/// Link address of the sender of the corpus.
const SENDER: &str = "02:00:00:00:00:02";

/// Packets that an Ethernet capture can hold: it has no segmentation data of a socket buffer.
fn samples() -> Vec<Sample> {
    let of_ethernet = |frame: Frame| frame.link == Link::Ethernet && frame.offload.size == 0;
    corpus().into_iter().filter(|sample| of_ethernet(sample.input().frame)).collect()
}

/// The frame as in a capture, which has all tags in their place.
fn captured(sample: &Sample) -> Input {
    const BEHIND_ADDRESSES: usize = 12;
    const TAG: [u8; 4] = [0x88, 0xa8, 0, 9];
    let Input { mut bytes, mut frame } = sample.input();
    for _ in 0..std::mem::take(&mut frame.tags_beside) {
        bytes.splice(BEHIND_ADDRESSES..BEHIND_ADDRESSES, TAG);
        frame.len += TAG.len() as u32;
    }
    Input { bytes, frame }
}

/// Packets, each in a second of its own.
fn packets_of(samples: &[Sample]) -> Vec<Packet> {
    let seconds = (BEGIN..).map(|second| second * SECOND + 500_000_000);
    let packet = |(sample, time_ns): (&Sample, u64)| {
        let Input { bytes, frame } = captured(sample);
        Packet { len: frame.len, ..Packet::new(time_ns, bytes) }
    };
    samples.iter().zip(seconds).map(packet).collect()
}

fn replayed(lab: &Lab, capture: &[u8]) -> Result<Replayed> {
    replay(lab, capture, &["--window", "1", "--local-mac", SENDER])
}

fn check(samples: &[Sample], replayed: &Replayed) -> Result<()> {
    let mut records: BTreeMap<i64, Vec<&Record>> = BTreeMap::new();
    for record in &replayed.records.all {
        records.entry(record.start - BEGIN as i64).or_default().push(record);
    }
    let (mut lost, mut non_ip, mut notes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (second, sample) in samples.iter().enumerate() {
        let found = records.remove(&(second as i64)).unwrap_or_default();
        let place = format!("{} ({}): {found:#?}", sample.name, sample.about);
        match (&sample.expect, &found[..]) {
            (Outcome::Flow { note, packets, bytes, .. }, [record]) => {
                check_flow(&sample.expect, record, &place)?;
                assert_eq!(record.tally, Tally::new(*packets, *bytes), "{place}");
                if let Some(note) = note {
                    *notes.entry(note.as_str()).or_insert(0) += 1;
                }
            }
            (Outcome::Lost { reason, packets, bytes }, [record]) => {
                assert_eq!(record.status, Status::SkipData, "{place}");
                assert_eq!(record.tally, Tally::new(*packets, *bytes), "{place}");
                *lost.entry(reason.as_str()).or_insert(0) += packets;
            }
            (Outcome::NonIp { kind }, []) => *non_ip.entry(kind.as_str()).or_insert(0) += 1,
            _ => bail!("{place}"),
        }
    }
    assert!(records.is_empty(), "records of no packet: {records:#?}");
    for (key, counts, suffix) in
        [("lost", lost, ".packets"), ("non_ip", non_ip, ""), ("notes", notes, "")]
    {
        for (name, count) in &counts {
            assert_eq!(replayed.count(&format!("{key}.{name}{suffix}")), *count, "{key} {name}");
        }
        let told = replayed.report[key].as_object().map_or(0, serde_json::Map::len);
        assert_eq!(told, counts.len(), "{key}: {}", replayed.report);
    }
    assert_eq!(replayed.count("packets"), samples.len() as u64);
    Ok(())
}

fn check_flow(expected: &Outcome, record: &Record, place: &str) -> Result<()> {
    let Outcome::Flow {
        source,
        destination,
        protocol,
        source_port,
        destination_port,
        icmp,
        tcp_flags,
        ..
    } = expected
    else {
        bail!("{place}")
    };
    let Some((direction, flow)) = record.flow else { bail!("{place}") };
    assert_eq!(direction, Direction::Egress, "{place}");
    assert_eq!(
        (flow.source, flow.destination, flow.protocol),
        (*source, *destination, *protocol),
        "{place}"
    );
    assert_eq!(
        (flow.source_port, flow.destination_port),
        (*source_port, *destination_port),
        "{place}"
    );
    let told = record.number("icmp_type").zip(record.number("icmp_code"));
    assert_eq!(told, icmp.map(|(kind, code)| (kind.into(), code.into())), "{place}");
    if *protocol == 6 {
        assert_eq!(record.number("tcp_flags_all"), Some((*tcp_flags).into()), "{place}");
    }
    Ok(())
}

#[test]
fn every_packet_of_the_corpus_comes_to_what_it_must_in_every_format() -> Result<()> {
    let lab = lab!();
    let samples = samples();
    assert!(samples.len() > 60, "{} packets", samples.len());
    let packets = packets_of(&samples);
    for order in Order::ALL {
        for nanoseconds in [false, true] {
            check(&samples, &replayed(&lab, &pcap(order, ETHERNET, nanoseconds, &packets))?)?;
        }
        let interface = Description::new("eth0");
        check(&samples, &replayed(&lab, &pcapng(order, &[interface], &packets))?)?;
    }
    Ok(())
}

/// Payload changes only the length, which a capture with a snap length still has.
#[test]
fn a_cut_packet_counts_whole() -> Result<()> {
    const SNAP_LENGTH: usize = 96;
    let lab = lab!();
    let has_all_headers = |sample: &Sample| {
        let input = captured(sample);
        let snapped = input.snapped(input.bytes.len().min(SNAP_LENGTH));
        reference::read(&snapped).outcome == sample.expect
    };
    let samples: Vec<Sample> = samples().into_iter().filter(has_all_headers).collect();
    let packets: Vec<Packet> =
        packets_of(&samples).into_iter().map(|packet| packet.cut(SNAP_LENGTH)).collect();
    let cut = packets.iter().filter(|packet| packet.bytes.len() < packet.len as usize).count();
    assert!(cut > 3, "{cut} are cut");
    let replayed = replayed(&lab, &pcap(Order::Little, ETHERNET, false, &packets))?;
    check(&samples, &replayed)?;
    assert_eq!(replayed.count("cut"), cut as u64);
    Ok(())
}

/// Truncated headers are not invented.
#[test]
fn a_packet_cut_in_its_headers_is_recorded_as_far_as_it_can_be_read() -> Result<()> {
    let lab = lab!();
    let sample =
        samples().into_iter().find(|sample| sample.name == "ipv4_udp").context("a datagram")?;
    let Outcome::Flow { bytes, source_port, destination_port, .. } = sample.expect else {
        bail!("no flow")
    };
    let whole = Packet::new(BEGIN * SECOND, sample.input().bytes);
    for (len, ports) in [(38, (source_port, destination_port)), (37, (0, 0)), (34, (0, 0))] {
        let capture = pcap(Order::Little, ETHERNET, false, &[whole.clone().cut(len)]);
        let replayed = replayed(&lab, &capture)?;
        let [record] = &replayed.records.all[..] else { bail!("{replayed:#?}") };
        let (_, flow) = record.flow.context("a flow")?;
        assert_eq!((flow.source_port, flow.destination_port), ports, "{len} bytes");
        assert_eq!(record.tally, Tally::new(1, bytes), "{len} bytes");
        assert_eq!(
            replayed.count("notes.transport_truncated"),
            u64::from(ports == (0, 0)),
            "{len} bytes"
        );
    }
    for len in 14..34 {
        let capture = pcap(Order::Little, ETHERNET, false, &[whole.clone().cut(len)]);
        let replayed = replayed(&lab, &capture)?;
        let [record] = &replayed.records.all[..] else { bail!("{replayed:#?}") };
        assert_eq!(
            (record.status, record.tally),
            (Status::SkipData, Tally::new(1, bytes)),
            "{len} bytes"
        );
        assert_eq!(replayed.count("lost.ip_truncated.packets"), 1, "{len} bytes");
    }
    for len in 0..14 {
        let capture = pcap(Order::Little, ETHERNET, false, &[whole.clone().cut(len)]);
        let replayed = replayed(&lab, &capture)?;
        assert_eq!(
            (replayed.count("non_ip.short"), replayed.records.all.len()),
            (1, 0),
            "{len} bytes"
        );
    }
    Ok(())
}
