//! Windows and times are the capture's.

use anyhow::Result;
use observer_tests::{
    capture::{ETHERNET, Order, Packet, pcap},
    lab,
    tally::Tally,
    traffic::frames,
};

use super::{BEGIN, SECOND, replay, times};

fn packet(ms: u64, source_port: u16) -> Packet {
    let packet = frames::Ipv4::new(
        [10, 9, 0, 1].into(),
        frames::protocol::UDP,
        frames::udp(source_port, 8, 30),
    );
    // Fractions of a millisecond are truncated, not rounded.
    Packet::new(BEGIN * SECOND + ms * 1_000_000 + 999_999, packet.frame())
}

fn capture(packets: &[Packet]) -> Vec<u8> {
    pcap(Order::Little, ETHERNET, true, packets)
}

/// `(start_ms, end_ms, packets)` of all records, relative to the beginning, sorted.
fn spans(replayed: &super::Replayed) -> Vec<(u64, u64, u64)> {
    let mut spans: Vec<_> = replayed
        .records
        .all
        .iter()
        .map(|record| {
            let (start, end) = times(record);
            (start - BEGIN * 1000, end - BEGIN * 1000, record.tally.packets)
        })
        .collect();
    spans.sort_unstable();
    spans
}

const LOCAL: [&str; 2] = ["--local", "10.9.0.1"];

#[test]
fn windows_split_flows_at_their_edges_to_the_millisecond() -> Result<()> {
    let lab = lab!();
    let packets: Vec<Packet> =
        [0, 1, 59_999, 60_000, 60_001, 119_999, 180_000, 185_123].map(|ms| packet(ms, 7)).into();
    let replayed = replay(&lab, &capture(&packets), &LOCAL)?;
    assert_eq!(spans(&replayed), [(0, 59_999, 3), (60_000, 119_999, 3), (180_000, 185_123, 2)]);
    let args = [&LOCAL[..], &["--window", "600"]].concat();
    let replayed = replay(&lab, &capture(&packets), &args)?;
    assert_eq!(spans(&replayed), [(0, 185_123, 8)]);
    let (first, last) = (replayed.count("first_ms"), replayed.count("last_ms"));
    assert_eq!((first, last), (BEGIN * 1000, BEGIN * 1000 + 185_123));
    Ok(())
}

#[test]
fn packets_out_of_order_find_their_window_and_their_place_in_it() -> Result<()> {
    let lab = lab!();
    let packets: Vec<Packet> =
        [61_000, 59_000, 60_500, 58_000, 62_000, 59_500].map(|ms| packet(ms, 7)).into();
    let replayed = replay(&lab, &capture(&packets), &LOCAL)?;
    assert_eq!(spans(&replayed), [(58_000, 59_500, 3), (60_500, 62_000, 3)]);
    assert_eq!(replayed.count("reopened_windows"), 0);

    // Hours late: two records of one flow and window, and no packet is missing.
    let packets: Vec<Packet> = [1_000, 7_200_000, 2_000, 3_000].map(|ms| packet(ms, 7)).into();
    let replayed = replay(&lab, &capture(&packets), &LOCAL)?;
    assert_eq!(spans(&replayed), [(1_000, 1_000, 1), (2_000, 3_000, 2), (7_200_000, 7_200_000, 1)]);
    assert_eq!(replayed.count("reopened_windows"), 1);
    Ok(())
}

/// More packets than the programs' cache and ring hold: they are read during the replay.
#[test]
fn any_number_of_flows_fits_into_a_window() -> Result<()> {
    const EACH: u64 = 3;
    let lab = lab!();
    let ports = 1..=u16::MAX;
    let mut packets = Vec::new();
    for round in 0..EACH {
        packets
            .extend(ports.clone().map(|port| packet(round * 1000 + u64::from(port) % 1000, port)));
        // The same ports with another host.
        let other = packets[packets.len() - ports.len()..].to_vec();
        packets.extend(other.into_iter().map(|mut packet| {
            packet.bytes[14 + 15] = 2;
            packet
        }));
    }
    let replayed = replay(&lab, &capture(&packets), &["--local", "10.9.0.0/24"])?;
    assert_eq!(replayed.records.all.len(), 2 * ports.len());
    assert!(replayed.records.all.iter().all(|record| record.tally == Tally::of(EACH, 58)));
    assert_eq!(replayed.report["lost"], serde_json::json!({}));
    Ok(())
}
