//! Drops of datagrams in fragments.

use std::net::IpAddr;

use anyhow::Result;
use observer_tests::{
    books::Books,
    firewall::add_rule,
    lab, need, requires,
    tally::{Crossed, Direction, Tally},
    traffic::{
        PacketSocket, SINK, Udp,
        frames::{Ipv4, Ipv6, LINK_HEADER, fragment, protocol, udp as datagram},
    },
    veth::{Family, Task},
};

use crate::drops::{NETFILTER, assert_flows_rejected, rejected};

const DATAGRAMS: u16 = 50;

/// A rule with connection tracking, for which IPv6 too is reassembled before the rule.
const TRACKED: &str = "ct state new,established,related,untracked";

/// Sends datagrams of one flow to [`SINK`] in fragments that end at these bytes; returns the
/// interface's traffic.
fn in_fragments(task: &Task, family: Family, source_port: u16, ends: &[u16]) -> Result<Tally> {
    const MORE: u16 = 0x2000;
    let len = ends.iter().copied().max().unwrap_or(0);
    let whole = datagram(source_port, SINK, usize::from(len) - 8);
    let addresses = (task.outside.address(family), task.inside.address(family));
    let frame = |identification, start: u16, end: u16| {
        let (is_last, payload) = (end == len, whole[usize::from(start)..usize::from(end)].to_vec());
        match addresses {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let fragment = (start / 8) | if is_last { 0 } else { MORE };
                let packet = Ipv4::new(source, protocol::UDP, payload);
                Ipv4 { destination, identification, fragment, ..packet }.frame_to(task.inside.mac())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let packet = Ipv6::new(source, protocol::UDP, payload)
                    .behind([fragment(start / 8, !is_last)]);
                let mut frame = Ipv6 { destination, ..packet }.frame();
                frame[..6].copy_from_slice(&task.inside.mac().0);
                frame
            }
            _ => unreachable!("two addresses of one family"),
        }
    };
    let starts = || [0].into_iter().chain(ends.iter().copied());
    let frames = (1..=DATAGRAMS)
        .flat_map(|id| starts().zip(ends).map(move |(start, end)| (id, start, *end)))
        .map(|(id, start, end)| frame(id, start, end));
    let sent = PacketSocket::open(&task.outside)?.send(frames)?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

/// Some datagrams are shorter than the MTU, and some have only fragments of different sizes. For
/// IPv6 the kernel reports only fragments as a sender makes them.
fn fragments_are_rejected(rule: &str, families: &[Family]) -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", rule)?;
    let daemon = lab.daemon().start()?;
    let (alike, uneven) =
        (&[400, 800, 1000], [&[8, 16, 1496, 2600][..], &[24, 1000], &[8, 16, 24, 32]]);
    let mut sent = Tally::default();
    for family in families {
        sent += in_fragments(&task, *family, Udp::FIRST_PORT, alike)?;
    }
    for (port, ends) in (Udp::FIRST_PORT + 1..).zip(uneven) {
        sent += in_fragments(&task, Family::V4, port, ends)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), sent);
    let accepted = books.records.accepted(task.inside.mac());
    assert!(accepted.is_empty(), "{accepted:#?}");
    Ok(())
}

#[test]
fn fragments_of_datagrams_that_are_dropped_whole_are_all_rejected() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", &format!("{TRACKED} udp dport 9000 drop"))?;
    let daemon = lab.daemon().start()?;
    let large = |family| Udp { family, flows: 3, packets: 10, payload: 10_000 };
    let mut sent = Tally::default();
    for family in Family::ALL {
        sent += large(family).send(&task.outside, &task.inside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    for family in Family::ALL {
        assert_flows_rejected(&books, &task, Direction::Ingress, &large(family), NETFILTER)?;
    }
    Ok(())
}

#[test]
fn fragments_of_any_size_are_rejected_with_their_datagram() -> Result<()> {
    fragments_are_rejected("udp dport 9000 drop", &[Family::V4])
}

#[test]
fn fragments_of_any_size_that_tracking_puts_together_are_rejected_with_their_datagram() -> Result<()>
{
    fragments_are_rejected(&format!("{TRACKED} udp dport 9000 drop"), &Family::ALL)
}

/// Without tracking, the rule sees IPv6 fragments one by one, and drops those that have the ports.
#[test]
fn fragments_that_are_dropped_one_by_one_are_rejected_one_by_one() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let ends = [400, 800, 1000];
    let sent = in_fragments(&task, Family::V6, Udp::FIRST_PORT, &ends)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let first = Tally::new(DATAGRAMS.into(), u64::from(DATAGRAMS) * (40 + 8 + 400));
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), first);
    let accepted = books.records.accepted(task.inside.mac());
    let left = Tally::new(sent.packets - first.packets, sent.bytes - first.bytes);
    assert_eq!(accepted.values().map(|sum| sum.tally).sum::<Tally>(), left);
    Ok(())
}

#[test]
fn fragments_that_are_rejected_leave_what_is_accepted_of_their_flow() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let rule = format!("{TRACKED} udp dport 9000 meta length > 500 drop");
    add_rule(task.inside.namespace(), "input", &rule)?;
    let daemon = lab.daemon().start()?;
    let (mut dropped, mut passed) = (Tally::default(), Tally::default());
    for family in Family::ALL {
        dropped += in_fragments(&task, family, Udp::FIRST_PORT, &[400, 800, 1000])?;
        passed +=
            Udp { family, flows: 1, packets: 30, payload: 20 }.send(&task.outside, &task.inside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(dropped + passed));
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), dropped);
    let accepted = books.records.accepted(task.inside.mac());
    assert_eq!(accepted.values().map(|sum| sum.tally).sum::<Tally>(), passed);
    Ok(())
}
