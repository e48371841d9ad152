//! Packet lengths and numbers of segments: by the IP header, not by the frame.

use std::net::Ipv6Addr;

use anyhow::Result;
use observer_tests::{
    capture::{ETHERNET, Order, Packet, pcap},
    lab,
    lab::Lab,
    tally::{Direction, Tally},
    traffic::frames::{Ipv4, Ipv6, protocol, tcp},
};

use super::{BEGIN, SECOND, replay};

const LOCAL: [&str; 2] = ["--local", "10.9.0.1"];
const US: [u8; 4] = [10, 9, 0, 1];
const SYN: u8 = 2;
const ACK: u8 = 16;

/// A SYN that announces this maximum segment size.
fn syn(from: u16, to: u16, flags: u8, mss: u16) -> Vec<u8> {
    let mut segment = tcp(from, to, flags);
    segment[12] = 0x60;
    segment.extend([2, 4]);
    segment.extend(mss.to_be_bytes());
    segment
}

fn segment(from: u16, to: u16, payload: usize) -> Vec<u8> {
    let mut segment = tcp(from, to, ACK);
    segment.resize(20 + payload, 0x42);
    segment
}

fn ours(segment: Vec<u8>) -> Ipv4 {
    Ipv4::new(US.into(), protocol::TCP, segment)
}

fn theirs(segment: Vec<u8>) -> Ipv4 {
    Ipv4 { source: [10, 0, 4, 200].into(), destination: US.into(), ..ours(segment) }
}

/// A frame with a trailer behind its packet.
fn with_trailer(mut frame: Vec<u8>, trailer: usize) -> Vec<u8> {
    frame.resize(frame.len() + trailer, 0xaa);
    frame
}

/// Totals of a capture of these frames in one direction, and the number of packets with assumed
/// segments.
fn replayed(lab: &Lab, frames: Vec<Vec<u8>>, direction: Direction) -> Result<(Tally, u64)> {
    let packets: Vec<Packet> =
        frames.into_iter().map(|frame| Packet::new(BEGIN * SECOND, frame)).collect();
    let replayed = replay(lab, &pcap(Order::Little, ETHERNET, false, &packets), &LOCAL)?;
    let of_direction =
        replayed.records.all.iter().filter(|it| it.flow.is_some_and(|(way, _)| way == direction));
    let assumed = replayed.count("super_packets.by_mss") + replayed.count("super_packets.by_mtu");
    Ok((of_direction.map(|record| record.tally).sum(), assumed))
}

/// The handshake of a connection with these maximum segment sizes.
fn connected(ours_mss: u16, theirs_mss: u16) -> Vec<Vec<u8>> {
    vec![ours(syn(7, 8, SYN, ours_mss)).frame(), theirs(syn(8, 7, SYN | ACK, theirs_mss)).frame()]
}

#[test]
fn a_trailer_behind_a_full_segment_is_no_payload() -> Result<()> {
    let lab = lab!();
    for trailer in [4, 2, 700] {
        let mut frames = connected(1460, 1460);
        frames.push(with_trailer(ours(segment(7, 8, 1460)).frame(), trailer));
        let (sent, assumed) = replayed(&lab, frames, Direction::Egress)?;
        assert_eq!((sent, assumed), (Tally::new(2, 44 + 1500), 0), "{trailer} bytes");
    }
    Ok(())
}

#[test]
fn padding_of_any_length_is_no_payload() -> Result<()> {
    let lab = lab!();
    for padding in [6, 1480, 60_000] {
        let mut frames = connected(1460, 1460);
        frames.push(with_trailer(ours(segment(7, 8, 0)).frame(), padding));
        let (sent, assumed) = replayed(&lab, frames, Direction::Egress)?;
        assert_eq!((sent, assumed), (Tally::new(2, 44 + 40), 0), "{padding} bytes");
    }
    Ok(())
}

#[test]
fn an_announcement_binds_the_other_end_only() -> Result<()> {
    let lab = lab!();
    let mut frames = connected(1380, 1460);
    frames.push(ours(segment(7, 8, 1430)).frame());
    let (sent, assumed) = replayed(&lab, frames, Direction::Egress)?;
    assert_eq!((sent, assumed), (Tally::new(2, 44 + 1470), 0), "the sender's own");
    let mut frames = connected(1380, 1460);
    frames.push(theirs(segment(8, 7, 1430)).frame());
    let (received, assumed) = replayed(&lab, frames, Direction::Ingress)?;
    assert_eq!((received, assumed), (Tally::new(3, 44 + 2 * 40 + 1430), 1), "the receiver's");
    Ok(())
}

/// A super-packet in a frame with a trailer: the trailer is not segmented.
#[test]
fn segments_are_those_of_the_packet_and_not_of_the_frame() -> Result<()> {
    let lab = lab!();
    for trailer in [0, 4, 50_000] {
        let frame = with_trailer(ours(segment(7, 8, 12_200)).frame(), trailer);
        let (sent, assumed) = replayed(&lab, vec![frame], Direction::Egress)?;
        assert_eq!((sent, assumed), (Tally::new(9, 12_200 + 9 * 40), 1), "{trailer} bytes");
    }
    Ok(())
}

/// Segmentation by the network card: neither IP version has the length in its header.
#[test]
fn a_length_of_0_is_that_of_the_frame_for_both_ip_versions() -> Result<()> {
    let lab = lab!();
    let v4 = Ipv4 { total_length: Some(0), ..ours(segment(7, 8, 2840)) };
    let (sent, assumed) = replayed(&lab, vec![v4.frame()], Direction::Egress)?;
    assert_eq!((sent, assumed), (Tally::new(2, 2840 + 2 * 40), 1));

    let local: Ipv6Addr = "2001:db8::1".parse()?;
    let v6 =
        |protocol, payload| Ipv6 { payload_length: Some(0), ..Ipv6::new(local, protocol, payload) };
    let frames = [
        v6(protocol::TCP, segment(7, 8, 2840)).frame(),
        v6(protocol::TCP, segment(7, 9, 100)).frame(),
    ];
    let packets: Vec<Packet> =
        frames.into_iter().map(|frame| Packet::new(BEGIN * SECOND, frame)).collect();
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let replayed = replay(&lab, &capture, &["--local", "2001:db8::1"])?;
    let mut sums: Vec<_> = replayed.records.all.iter().map(|record| record.tally).collect();
    sums.sort_unstable_by_key(|sum| sum.packets);
    assert_eq!(sums, [Tally::new(1, 160), Tally::new(2, 2840 + 2 * 60)]);

    // Nothing follows its header; the rest is padding.
    let empty = v6(protocol::NO_NEXT, vec![0; 6]).frame();
    let capture = pcap(Order::Little, ETHERNET, false, &[Packet::new(BEGIN * SECOND, empty)]);
    let replayed = replay(&lab, &capture, &["--local", "2001:db8::1"])?;
    assert_eq!(replayed.records.all[0].tally, Tally::new(1, 40));
    Ok(())
}
