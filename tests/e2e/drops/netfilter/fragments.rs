//! Datagrams in fragments of chosen sizes.

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

use crate::drops::{NETFILTER, rejected};

pub(super) const DATAGRAMS: u16 = 50;

/// Sends datagrams of one flow to [`SINK`] in fragments that end at these bytes; returns the
/// interface's traffic.
pub(super) fn in_fragments(
    task: &Task,
    family: Family,
    source_port: u16,
    ends: &[u16],
) -> Result<Tally> {
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
pub(super) fn fragments_are_rejected(rule: &str, families: &[Family]) -> Result<()> {
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
