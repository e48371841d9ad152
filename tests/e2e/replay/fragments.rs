//! Ports of fragments: a first fragment is remembered as long as the kernel waits for the others.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result};
use observer_tests::{
    capture::{ETHERNET, Order, Packet, pcap},
    lab,
    lab::Lab,
    records::Flow,
    tally::Tally,
    traffic::frames::{Ipv4, Ipv6, fragment, protocol, udp},
    veth::Family,
};

use super::{BEGIN, SECOND, replay};

const LOCAL: [&str; 4] = ["--local", "10.9.0.1", "--local", "2001:db8::1"];
const MORE_FRAGMENTS: u16 = 0x2000;

fn v4(identification: u16, offset: u16, more: bool, payload: Vec<u8>) -> Vec<u8> {
    let fragment = offset | if more { MORE_FRAGMENTS } else { 0 };
    let plain = Ipv4::new(Ipv4Addr::new(10, 9, 0, 1), protocol::UDP, payload);
    Ipv4 { identification, fragment, ..plain }.frame()
}

fn v6(address: Ipv6Addr, offset: u16, more: bool, payload: Vec<u8>) -> Vec<u8> {
    Ipv6::new(address, protocol::UDP, payload).behind([fragment(offset, more)]).frame()
}

/// The first and the last of two fragments. The first's ports are 257 and 257.
fn two(family: Family) -> Result<[Vec<u8>; 2]> {
    let datagram = udp(257, 257, 16);
    let (first, last) = (datagram[..16].to_vec(), datagram[16..].to_vec());
    let address = "2001:db8::1".parse()?;
    Ok(match family {
        Family::V4 => [v4(7, 0, true, first), v4(7, 2, false, last)],
        Family::V6 => [v6(address, 0, true, first), v6(address, 2, false, last)],
    })
}

/// Source ports and packets of all records of these frames.
fn ports(lab: &Lab, frames: &[(u64, Vec<u8>)]) -> Result<Vec<(u16, u64)>> {
    let packets: Vec<Packet> = frames
        .iter()
        .map(|(seconds, frame)| Packet::new((BEGIN + seconds) * SECOND, frame.clone()))
        .collect();
    let replayed = replay(lab, &pcap(Order::Little, ETHERNET, false, &packets), &LOCAL)?;
    let mut ports: Vec<_> = replayed
        .records
        .all
        .iter()
        .map(|record| Ok((record.flow.context("a flow")?.1.source_port, record.tally.packets)))
        .collect::<Result<_>>()?;
    ports.sort_unstable();
    Ok(ports)
}

#[test]
fn a_first_fragment_is_remembered_as_long_as_its_family_reassembles() -> Result<()> {
    let lab = lab!();
    for (family, patience) in [(Family::V4, 30), (Family::V6, 60)] {
        let [first, last] = two(family)?;
        for begin in [0, 3, 17, 31] {
            let after = |seconds| [(begin, first.clone()), (begin + seconds, last.clone())];
            for seconds in [1, 20, patience - 1, patience] {
                let sums: u64 = ports(&lab, &after(seconds))?
                    .iter()
                    .filter(|it| it.0 == 257)
                    .map(|it| it.1)
                    .sum();
                assert_eq!(sums, 2, "{family:?}, {seconds} s behind {begin} s");
            }
            let late = ports(&lab, &after(patience + 1))?;
            assert_eq!(late, [(0, 1), (257, 1)], "{family:?}, later than that");
        }
    }
    Ok(())
}

/// As many first fragments in between as a busy resolver sends.
#[test]
fn other_datagrams_in_fragments_do_not_displace_a_recent_one() -> Result<()> {
    let lab = lab!();
    let [first, last] = two(Family::V4)?;
    let mut frames = vec![(0, first)];
    frames.extend((100..1100).map(|other| (1, v4(other, 0, true, udp(5000, 53, 8)))));
    frames.push((29, last));
    let ports = ports(&lab, &frames)?;
    assert_eq!(ports, [(257, 2), (5000, 1000)]);
    Ok(())
}

/// Identifications of IPv4 and IPv6 packets may be equal.
#[test]
fn ipv4_and_ipv6_with_the_same_numbers_are_two_flows() -> Result<()> {
    let lab = lab!();
    let mapped: Ipv6Addr = "::ffff:10.9.0.1".parse()?;
    let mut packet = Ipv6::new(mapped, protocol::UDP, udp(7, 8, 4));
    packet.destination = "::ffff:10.0.4.200".parse()?;
    let frames = [
        Ipv4::new(Ipv4Addr::new(10, 9, 0, 1), protocol::UDP, udp(7, 8, 4)).frame(),
        packet.frame(),
        packet.frame(),
    ];
    let packets: Vec<Packet> =
        frames.into_iter().map(|frame| Packet::new(BEGIN * SECOND, frame)).collect();
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let replayed = replay(&lab, &capture, &["--local", "0.0.0.0/0", "--local", "::/0"])?;
    let of = |source: IpAddr| {
        let is_of = |flow: &Flow| flow.source == source;
        let its: Vec<_> = replayed
            .records
            .all
            .iter()
            .filter(|it| it.flow.is_some_and(|(_, flow)| is_of(&flow)))
            .collect();
        its.iter().map(|record| (record.text("type").to_owned(), record.tally)).collect::<Vec<_>>()
    };
    assert_eq!(of([10, 9, 0, 1].into()), [("IPv4".to_owned(), Tally::of(1, 32))]);
    assert_eq!(of(mapped.into()), [("IPv6".to_owned(), Tally::of(2, 52))]);
    Ok(())
}
