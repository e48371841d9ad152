//! A capture taken at the same time gives the same flows, packets and bytes as the daemon.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use observer_tests::{
    books::Books,
    capture::{Description, ETHERNET, Order, Packet, Recorder, pcap, pcapng},
    lab,
    lab::Lab,
    need,
    offloads::Offloads,
    records::{Flow, Record, Records},
    requires,
    tally::{Crossed, Direction, Tally},
    traffic::{SentTwice, Transfer, Udp, bulk, exchange, ping, segmented},
    tunnel::Tunnel,
    veth::{Family, Mac, Task},
};

use super::{Replayed, replay};

/// Sum and TCP flags of each flow. The number of windows is left out, because the daemon's clock
/// and the capture's differ by some microseconds.
fn flows(records: &Records, mac: Mac) -> BTreeMap<(Direction, Flow), (Tally, u64, u64)> {
    let flows = records.flows(mac).into_iter();
    flows.map(|(flow, sum)| (flow, (sum.tally, sum.tcp_flags, sum.tcp_flags_all))).collect()
}

/// Types and codes of ICMP.
fn icmp(records: &Records, mac: Mac) -> BTreeSet<(Option<u64>, Option<u64>)> {
    let of_icmp =
        |record: &&Record| record.flow.is_some_and(|(_, flow)| matches!(flow.protocol, 1 | 58));
    let kinds = records.of(mac).filter(of_icmp);
    kinds.map(|record| (record.number("icmp_type"), record.number("icmp_code"))).collect()
}

/// UDP, fragments, ICMP, and TCP with enough data for super-packets.
fn traffic(task: &Task) -> Result<Crossed> {
    let mut sent = Crossed::default();
    for family in Family::ALL {
        for udp in [
            Udp { family, flows: 20, packets: 10, payload: 100 },
            Udp { family, flows: 2, packets: 5, payload: 10_000 },
        ] {
            sent.ingress += udp.send(&task.outside, &task.inside)?;
            sent.egress += udp.send(&task.inside, &task.outside)?;
        }
        let pings = ping(&task.inside, &task.outside, family, 5, 56)?;
        sent += Crossed { ingress: pings.each_way, egress: pings.each_way };
        for (request, response) in [(300, 2_000_000), (2_000_000, 300), (1, 1)] {
            let transfer = Transfer { family, request, response };
            let served = exchange(&task.outside, &task.inside, transfer)?;
            sent += Crossed { ingress: served.from_client, egress: served.from_server };
            let asked = exchange(&task.inside, &task.outside, transfer)?;
            sent += Crossed { ingress: asked.from_server, egress: asked.from_client };
        }
    }
    Ok(sent)
}

/// Captures during a daemon's run, replays the capture in several ways, and compares the records.
fn check(
    lab: &Lab,
    name: &'static str,
    offloads: Offloads,
    snap_length: usize,
) -> Result<(Vec<Packet>, Replayed)> {
    let mut task = lab.task(name)?;
    task.set_offloads(offloads)?;
    let daemon = lab.daemon().name(name).start()?;
    let recorder = Recorder::start(&task.inside)?;
    let sent = traffic(&task)?;
    let packets = recorder.finish(snap_length)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);

    let mac = task.inside.mac();
    let local_mac = mac.to_string();
    let by_mac = ["--local-mac", &local_mac];
    let by_network = ["--local", "10.0.4.128", "--local", "2001:db8:0:4::80/128"];
    let flagged = pcapng(Order::Little, &[Description::new("eth0")], &packets);
    let mute: Vec<Packet> =
        packets.iter().map(|packet| Packet { direction: None, ..packet.clone() }).collect();
    let mute = pcapng(
        Order::Big,
        &[Description { resolution: Some(9), ..Description::new("eth0") }],
        &mute,
    );
    let legacy = pcap(Order::Little, ETHERNET, false, &packets);
    for (capture, args) in [
        (&flagged, by_mac.to_vec()),
        (&mute, [&by_network[..], &by_mac].concat()),
        (&mute, [&by_mac[..], &["--window", "1"]].concat()),
    ] {
        assert_same(&books, mac, &replay(lab, capture, &args)?);
    }
    let replayed = replay(lab, &legacy, &by_mac)?;
    assert_same(&books, mac, &replayed);
    Ok((packets, replayed))
}

fn assert_same(books: &Books, mac: Mac, replayed: &Replayed) {
    let (theirs, ours) = (flows(&books.records, mac), flows(&replayed.records, mac));
    for (flow, sum) in &theirs {
        assert_eq!(
            ours.get(flow),
            Some(sum),
            "{flow:?} of the replay, and of the daemon; {}",
            replayed.report
        );
    }
    assert_eq!(ours.len(), theirs.len(), "flows");
    assert_eq!(icmp(&replayed.records, mac), icmp(&books.records, mac), "ICMP");
    assert_eq!(replayed.report["lost"], serde_json::json!({}));
}

const WHOLE: usize = usize::MAX;
/// Longest Ethernet frame without super-packets.
const FRAME: u32 = 1514;

fn longest(packets: &[Packet]) -> u32 {
    packets.iter().map(|packet| packet.len).max().unwrap_or(0)
}

#[test]
fn plain_packets() -> Result<()> {
    let lab = lab!();
    let (packets, replayed) = check(&lab, "task", Offloads::NONE, WHOLE)?;
    assert_eq!(longest(&packets), FRAME);
    assert_eq!(replayed.count("super_packets.by_mss"), 0);
    assert_eq!(replayed.count("recorded.captured"), replayed.count("recorded.packets"));
    Ok(())
}

#[test]
fn super_packets_of_a_sender_and_those_merged_by_a_receiver() -> Result<()> {
    let lab = lab!();
    let kinds = [("sent", Offloads::VETH), ("merged", Offloads::MERGED)];
    // Packets that the kernel does not merge are plain.
    for (name, offloads) in
        kinds.into_iter().filter(|(_, offloads)| offloads.tso || offloads.merges())
    {
        let (packets, replayed) = check(&lab, name, offloads, WHOLE)?;
        assert!(longest(&packets) > 10 * FRAME, "{name}: the longest is {}", longest(&packets));
        assert!(replayed.count("super_packets.by_mss") > 0, "{name}: {}", replayed.report);
        assert_eq!(replayed.count("super_packets.by_mtu"), 0, "{name}: {}", replayed.report);
        assert!(replayed.count("recorded.captured") < replayed.count("recorded.packets"), "{name}");
    }
    Ok(())
}

#[test]
fn packets_cut_behind_their_headers() -> Result<()> {
    let lab = lab!();
    let (packets, replayed) = check(&lab, "task", Offloads::VETH, 96)?;
    let cut = packets.iter().filter(|packet| packet.bytes.len() < packet.len as usize).count();
    assert_eq!(replayed.count("cut"), cut as u64);
    assert!(cut > 100);
    Ok(())
}

/// TCP agrees on segment sizes inside the tunnel; with all headers, segments fill the MTU.
fn super_packets_in(lab: &Lab, tunnel: Tunnel) -> Result<()> {
    const BYTES: u64 = 2_000_000;
    let task = lab.task("task")?;
    let through = tunnel.through(lab, &task)?;
    let daemon = lab.daemon().start()?;
    let recorder = Recorder::start(&task.inside)?;
    for (client, server) in
        [(&through.outside, &through.inside), (&through.inside, &through.outside)]
    {
        match bulk(client, server, tunnel.inside, BYTES) {
            // The amount is unknown, but the capture and the daemon have seen the same.
            Err(error) if error.is::<SentTwice>() => {}
            sent => drop(sent?),
        }
    }
    let packets = recorder.finish(WHOLE)?;
    let books = Books::close(daemon, [&task.inside])?;
    let mac = task.inside.mac();
    let capture = pcap(Order::Little, ETHERNET, false, &packets);
    let replayed = replay(lab, &capture, &["--local-mac", &mac.to_string()])?;
    assert_same(&books, mac, &replayed);
    assert!(longest(&packets) > 10 * FRAME, "the longest is {}", longest(&packets));
    assert!(replayed.count("super_packets.by_mtu") > 0, "{}", replayed.report);
    assert_eq!(replayed.count("super_packets.jumbo"), 0, "{}", replayed.report);
    assert_eq!(replayed.report["notes"], serde_json::json!({}));
    Ok(())
}

#[test]
fn super_packets_in_vxlan() -> Result<()> {
    const VXLAN: Tunnel = Tunnel {
        words: "vxlan id 7 dstport 4789",
        outside: Family::V4,
        inside: Family::V4,
        header: 16,
        ethernet: true,
    };
    let lab = lab!();
    need!(VXLAN.is_known(&lab.other_namespace("probe")?));
    super_packets_in(&lab, VXLAN)
}

#[test]
fn super_packets_in_gre() -> Result<()> {
    const GRE: Tunnel = Tunnel {
        words: "gre key 7",
        outside: Family::V4,
        inside: Family::V4,
        header: 8,
        ethernet: false,
    };
    let lab = lab!();
    need!(GRE.is_known(&lab.other_namespace("probe")?));
    super_packets_in(&lab, GRE)
}

/// Only the sender knows the segment size of UDP: the report marks it as guessed.
#[test]
fn super_packets_of_udp_are_guessed_and_said_to_be() -> Result<()> {
    const MESSAGES: u64 = 20;
    // Older veths segment them before the capture.
    need!(requires::linux(5, 11));
    let lab = lab!();
    let task = lab.task("task")?;
    let recorder = Recorder::start(&task.inside)?;
    let full = segmented((&task.inside, &task.outside), Family::V4, MESSAGES, 14_720, 1472)?;
    let other = segmented((&task.inside, &task.outside), Family::V4, MESSAGES, 9_500, 1000)?;
    let capture = pcap(Order::Little, ETHERNET, false, &recorder.finish(WHOLE)?);
    let replayed = replay(&lab, &capture, &["--local-mac", &task.inside.mac().to_string()])?;
    assert_eq!(replayed.count("super_packets.by_mtu"), 2 * MESSAGES);
    assert_eq!(replayed.count("super_packets.mtu"), 1500);
    // Right if the segments fill the MTU, and otherwise as imprecise as the MTU.
    let guessed = Tally::new(MESSAGES * 7, MESSAGES * (7 * 28 + 9_500));
    assert_ne!(guessed, other);
    assert_eq!(replayed.records.recorded(task.inside.mac()).egress, full + guessed);
    Ok(())
}
