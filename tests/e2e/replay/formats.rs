//! Link types, directions, file formats, standard input and output.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use observer_tests::{
    capture::{Description, ETHERNET, Order, Packet, block, pcap, pcapng},
    daemon::command,
    lab,
    tally::{Direction, Tally},
    traffic::frames,
};

use super::{
    BEGIN, fed, replay,
    samples::{LOCAL, at, bytes, frame, ipv6},
    times,
};

#[test]
fn every_link_type_gives_the_same_flow() -> Result<()> {
    let lab = lab!();
    let cooked = |packet_type: u8, ether_type: u16| {
        [&[0, packet_type, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0][..], &ether_type.to_be_bytes()]
            .concat()
    };
    let cooked2 = |packet_type: u8| {
        vec![8, 0, 0, 0, 0, 0, 0, 3, 0, 1, packet_type, 6, 2, 0, 0, 0, 0, 1, 0, 0]
    };
    let tagged =
        [frames::ether_type::VLAN.to_be_bytes(), [0, 7], frames::ether_type::IPV4.to_be_bytes()]
            .concat();
    for (link_type, header) in [
        (ETHERNET, frames::ethernet(frames::ether_type::IPV4, &[])),
        (ETHERNET, [frames::ethernet(0, &[])[..12].to_vec(), tagged].concat()),
        (101, vec![]),
        (228, vec![]),
        (12, vec![]),
        (0, vec![2, 0, 0, 0]),
        (0, vec![0, 0, 0, 2]),
        (108, vec![0, 0, 0, 2]),
        (113, cooked(4, frames::ether_type::IPV4)),
        (276, cooked2(4)),
    ] {
        let packets = [at(0, [header.clone(), bytes(Direction::Egress)].concat())];
        for (capture, format) in [
            (pcap(Order::Little, link_type, false, &packets), "pcap"),
            (
                pcapng(Order::Big, &[Description { link_type, ..Description::new("") }], &packets),
                "pcapng",
            ),
        ] {
            let replayed =
                replay(&lab, &capture, &LOCAL).with_context(|| format!("{format} {link_type}"))?;
            let [record] = &replayed.records.all[..] else { panic!("{link_type}: {replayed:#?}") };
            let (direction, flow) = record.flow.context("a flow")?;
            assert_eq!(direction, Direction::Egress, "{link_type}");
            assert_eq!((flow.source_port, flow.destination_port), (7, 8), "{link_type}");
            assert_eq!(record.tally, Tally::new(1, 58), "{link_type}");
        }
    }
    for family in [10, 24, 28, 30] {
        let packets = [at(0, [vec![family, 0, 0, 0], ipv6()].concat())];
        let capture = pcap(Order::Little, 0, false, &packets);
        let replayed = replay(&lab, &capture, &["--local", "2001:db8::1"])?;
        assert_eq!(replayed.records.all.len(), 1, "family {family}");
        assert_eq!(replayed.records.all[0].tally, Tally::new(1, 78));
    }
    Ok(())
}

#[test]
fn captures_that_name_the_direction_need_no_flags() -> Result<()> {
    let lab = lab!();
    // Linux cooked capture: to the host, to others, and sent.
    let header = |packet_type| vec![0, packet_type, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0];
    let cooked: Vec<Packet> = [0, 3, 4]
        .map(|packet_type| at(0, [header(packet_type), bytes(Direction::Egress)].concat()))
        .into();
    let both =
        |tally: observer_tests::tally::Crossed| (tally.ingress.packets, tally.egress.packets);
    let crossed = |records: &observer_tests::records::Records| {
        let mut crossed = observer_tests::tally::Crossed::default();
        for record in &records.all {
            match record.flow {
                Some((Direction::Ingress, _)) => crossed.ingress += record.tally,
                Some((Direction::Egress, _)) => crossed.egress += record.tally,
                None => {}
            }
        }
        crossed
    };
    let replayed = replay(&lab, &pcap(Order::Little, 113, false, &cooked), &[])?;
    assert_eq!(both(crossed(&replayed.records)), (2, 1));

    for order in Order::ALL {
        let flagged =
            [Direction::Ingress, Direction::Ingress, Direction::Egress].map(|direction| Packet {
                direction: Some(direction),
                ..at(0, frame(Direction::Egress))
            });
        let mut packets = flagged.to_vec();
        packets.push(at(0, frame(Direction::Egress)));
        let capture = pcapng(order, &[Description::new("eth0")], &packets);
        let replayed = replay(&lab, &capture, &[])?;
        assert_eq!(both(crossed(&replayed.records)), (2, 1), "{order:?}");
        assert_eq!(
            replayed.count("no_direction"),
            1,
            "one without a direction among others with one"
        );
    }
    Ok(())
}

#[test]
fn packets_of_neither_side_are_reported_and_those_of_both_are_sent() -> Result<()> {
    let lab = lab!();
    let packets = [at(0, frame(Direction::Ingress)), at(1, frame(Direction::Egress))];
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let neither = replay(&lab, &capture, &["--local", "192.0.2.0/24"])?;
    assert_eq!((neither.count("no_direction"), neither.records.all.len()), (2, 0));
    let both = replay(&lab, &capture, &["--local", "10.0.0.0/8"])?;
    assert_eq!(both.count("both_local"), 2);
    assert!(
        both.records.all.iter().all(|it| it.flow.is_some_and(|(way, _)| way == Direction::Egress))
    );
    let one = replay(&lab, &capture, &["--local", "10.9.0.1"])?;
    let ways: BTreeSet<_> =
        one.records.all.iter().filter_map(|record| Some(record.flow?.0)).collect();
    assert_eq!(ways, Direction::ALL.into());
    Ok(())
}

/// The format of a patched libpcap in some distributions, with longer record headers.
#[test]
fn modified_pcap_is_read_in_both_byte_orders() -> Result<()> {
    let lab = lab!();
    for order in Order::ALL {
        let plain = pcap(order, ETHERNET, false, &[]);
        let word = |value: u32| {
            if order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
        };
        let mut capture = [&word(0xa1b2_cd34)[..], &plain[4..]].concat();
        for number in 0..3 {
            let frame = frame(Direction::Egress);
            let length = frame.len() as u32;
            capture
                .extend([(BEGIN + number) as u32, 500_000, length, length, 7].map(word).concat());
            // Protocol, packet type, padding.
            capture.extend([8, 0, 4, 0]);
            capture.extend(frame);
        }
        let replayed = replay(&lab, &capture, &LOCAL)?;
        let [record] = &replayed.records.all[..] else { panic!("{order:?}: {replayed:#?}") };
        assert_eq!(record.tally, Tally::of(3, 58), "{order:?}");
        assert_eq!(times(record), (BEGIN * 1000 + 500, BEGIN * 1000 + 2500), "{order:?}");
    }
    Ok(())
}

#[test]
fn other_blocks_of_a_pcapng_file() -> Result<()> {
    let lab = lab!();
    let frame = frame(Direction::Egress);
    for order in Order::ALL {
        let number = |value: u32| {
            if order == Order::Little { value.to_le_bytes() } else { value.to_be_bytes() }
        };
        assert_eq!(frame.len() % 4, 0, "no padding");
        let len = number(frame.len() as u32);
        let mut capture = pcapng(order, &[Description::new("eth0")], &[at(0, frame.clone())]);
        // Simple packet blocks have no time; obsolete packet blocks have one.
        capture.extend(block(order, 3, &[&len[..], &frame].concat()));
        let us = BEGIN * 1_000_000 + 7_000;
        let header = [0, (us >> 32) as u32, us as u32].map(number).concat();
        capture.extend(block(order, 2, &[&header[..], &len, &len, &frame].concat()));
        // An unknown block, an invalid secrets block, and statistics: 7 packets dropped.
        capture.extend(block(order, 0x0bad_cafe, &[0; 16]));
        capture.extend(block(order, 10, &[1; 40]));
        let code = |code: u16| {
            if order == Order::Little { code.to_le_bytes() } else { code.to_be_bytes() }
        };
        let mut dropped = 7_u64.to_be_bytes();
        if order == Order::Little {
            dropped.reverse();
        }
        capture.extend(block(order, 5, &[&[0; 12][..], &code(5), &code(8), &dropped].concat()));
        let replayed = replay(&lab, &capture, &LOCAL)?;
        assert_eq!((replayed.count("packets"), replayed.count("no_time")), (3, 1));
        assert_eq!(replayed.count("dropped_by_capture"), 7);
        let [record] = &replayed.records.all[..] else { panic!("{replayed:#?}") };
        assert_eq!(
            (record.tally, times(record)),
            (Tally::of(2, 58), (BEGIN * 1000, BEGIN * 1000 + 7))
        );
    }
    Ok(())
}

#[test]
fn a_capture_may_come_by_a_pipe_and_records_may_leave_by_one() -> Result<()> {
    let lab = lab!();
    let packets: Vec<Packet> = (0..1000).map(|ms| at(ms, frame(Direction::Egress))).collect();
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let exit = fed(
        command()?.args(["replay", "-", "--local", "10.9.0.1", "--local-mac", "02:00:00:00:00:ef"]),
        &capture,
    )?;
    assert_eq!(exit.status.code(), Some(0), "{}", exit.stderr);
    let end = BEGIN;
    let line = format!(
        "2 - stdin@02:00:00:00:00:ef 10.9.0.1 10.0.4.200 7 8 17 1000 58000 {BEGIN} {end} ACCEPT OK\n"
    );
    assert_eq!(exit.stdout, line);
    assert!(exit.stderr.contains("1000 recorded"), "{}", exit.stderr);
    assert!(
        !exit.stderr.contains('\u{1b}'),
        "no progress bar where nobody looks: {:?}",
        exit.stderr
    );

    let exit = fed(
        command()?.args(["replay", "-", "--local", "10.9.0.1", "--output", "jsonl"]),
        &capture,
    )?;
    assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("--output-dir"), "{}", exit.stderr);
    drop(lab);
    Ok(())
}

#[test]
fn a_packet_longer_than_the_kernel_takes_counts_whole() -> Result<()> {
    let lab = lab!();
    let jumbo =
        frames::Ipv4::new([10, 9, 0, 1].into(), frames::protocol::UDP, frames::udp(7, 8, 8973));
    let packets = [at(0, jumbo.frame()), at(1, jumbo.frame())];
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let args = [&LOCAL[..], &["--mtu", "9001"]].concat();
    let replayed = replay(&lab, &capture, &args)?;
    assert_eq!(replayed.records.all[0].tally, Tally::of(2, 9001));

    // Without the MTU it can only be guessed, and the report shows that.
    let replayed = replay(&lab, &capture, &LOCAL)?;
    assert_eq!(replayed.count("super_packets.by_mtu"), 2);
    assert_eq!(replayed.records.all[0].tally, Tally::new(14, 14 * 28 + 2 * 8973));
    Ok(())
}
