//! Drops by nftables rules on every hook.

mod checks;
mod forwarding;
mod fragments;

use std::{
    io,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    firewall::{add_device_rule, add_rule},
    lab, need,
    records::Status,
    requires,
    tally::{Crossed, Direction, Tally},
    traffic::{Transfer, Udp, exchange, frames::protocol, segmented},
    veth::{Family, Task},
};

use self::checks::{drops_before_the_hook, drops_behind_the_hook};
use super::{NETFILTER, all_rejected, crossed, knocking, rejected};

#[test]
fn what_prerouting_drops_is_rejected() -> Result<()> {
    let rule = |task: &Task| add_rule(task.inside.namespace(), "prerouting", "udp dport 9000 drop");
    drops_behind_the_hook(rule, NETFILTER)
}

#[test]
fn what_input_drops_is_rejected() -> Result<()> {
    let rule = |task: &Task| add_rule(task.inside.namespace(), "input", "udp dport 9000 drop");
    drops_behind_the_hook(rule, NETFILTER)
}

#[test]
fn what_a_device_ingress_chain_drops_is_rejected() -> Result<()> {
    let rule = |task: &Task| {
        add_device_rule(task.inside.namespace(), "ingress", "eth0", "udp dport 9000 drop")
    };
    drops_behind_the_hook(rule, NETFILTER)
}

#[test]
fn what_output_drops_is_rejected_and_never_crossed() -> Result<()> {
    drops_before_the_hook(|task| add_rule(task.inside.namespace(), "output", "udp dport 9000 drop"))
}

#[test]
fn what_postrouting_drops_is_rejected_and_never_crossed() -> Result<()> {
    drops_before_the_hook(|task| {
        add_rule(task.inside.namespace(), "postrouting", "udp dport 9000 drop")
    })
}

#[test]
fn what_a_device_egress_chain_drops_is_rejected_and_never_crossed() -> Result<()> {
    need!(requires::linux(5, 16));
    drops_before_the_hook(|task| {
        add_device_rule(task.inside.namespace(), "egress", "eth0", "udp dport 9000 drop")
    })
}

#[test]
fn a_refused_connection_is_rejected_and_its_refusal_accepted() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "tcp dport 443 reject with tcp reset")?;
    let daemon = lab.daemon().start()?;
    for family in Family::ALL {
        let address = SocketAddr::new(task.inside.address(family), 443);
        let refused = task.outside.namespace().run(|| Ok(TcpStream::connect(address)))?;
        assert_eq!(
            refused.map_err(|error| error.kind()).err(),
            Some(io::ErrorKind::ConnectionRefused)
        );
    }
    let sent = crossed(&task.inside)?;
    assert_eq!(
        (sent.ingress.packets, sent.egress.packets),
        (2, 2),
        "a SYN and a RST of each family"
    );
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let mac = task.inside.mac();
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), sent.ingress);
    assert_eq!(all_rejected(&books.records, &task.inside), sent.ingress);
    for (_, sum) in books.records.rejected(mac) {
        assert_eq!((sum.records, sum.tcp_flags), (1, 2), "a SYN");
    }
    let accepted = books.records.accepted(mac);
    assert!(accepted.keys().all(|(direction, _)| *direction == Direction::Egress), "{accepted:#?}");
    for sum in accepted.values() {
        assert_eq!(sum.tcp_flags & 4, 4, "a RST");
    }
    Ok(())
}

#[test]
fn an_unwanted_datagram_is_rejected_and_the_icmp_about_it_accepted() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 reject")?;
    let daemon = lab.daemon().start()?;
    let mut ingress = Tally::default();
    for family in Family::ALL {
        let one = Udp { family, flows: 1, packets: 1, payload: 30 };
        ingress += one.send(&task.outside, &task.inside)?;
    }
    let sent = crossed(&task.inside)?;
    assert_eq!(sent.ingress, ingress);
    assert_eq!(sent.egress.packets, 2, "an ICMP and an ICMPv6 message");
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), ingress);
    let accepted = books.records.accepted(task.inside.mac());
    let mut protocols: Vec<_> =
        accepted.keys().map(|(direction, flow)| (*direction, flow.protocol)).collect();
    protocols.sort_unstable();
    assert_eq!(
        protocols,
        [(Direction::Egress, protocol::ICMP), (Direction::Egress, protocol::ICMPV6)]
    );
    Ok(())
}

#[test]
fn a_connection_that_cannot_leave_is_rejected() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "output", "tcp dport 443 drop")?;
    let daemon = lab.daemon().start()?;
    for family in Family::ALL {
        let address = SocketAddr::new(task.outside.address(family), 443);
        // A SYN is retransmitted after a second.
        let patience = Duration::from_millis(300);
        let answer =
            task.inside.namespace().run(|| Ok(TcpStream::connect_timeout(&address, patience)))?;
        assert_eq!(answer.map_err(|error| error.kind()).err(), Some(io::ErrorKind::TimedOut));
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::default());
    let flows = books.records.rejected(task.inside.mac());
    assert_eq!(flows.len(), 2, "{flows:#?}");
    for (((direction, flow), reason), sum) in &flows {
        assert_eq!(
            (*direction, reason.as_str(), flow.destination_port),
            (Direction::Egress, NETFILTER, 443)
        );
        assert_eq!((sum.tally.packets, sum.tcp_flags), (1, 2), "a SYN");
    }
    assert_eq!(books.stopped(&task.inside).egress, all_rejected(&books.records, &task.inside));
    Ok(())
}

#[test]
fn pings_that_are_dropped_are_rejected_with_type_and_code() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::program("ping"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "meta l4proto { icmp, icmpv6 } drop")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        let (mut ping, requests) = knocking(&task.outside, &task.inside, family, 5, 56)?;
        ping.status().context("starting ping")?;
        sent += requests;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER), sent);
    assert!(books.records.accepted(task.inside.mac()).is_empty());
    for record in books.records.with_status(task.inside.mac(), Status::Ok) {
        let expected = if record.text("type") == "IPv4" { 8 } else { 128 };
        assert_eq!(
            (record.number("icmp_type"), record.number("icmp_code")),
            (Some(expected), Some(0))
        );
    }
    Ok(())
}

#[test]
fn drops_of_two_tasks_with_the_same_addresses_stay_apart() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let tasks = lab.tasks(["open", "closed", "half"].map(String::from))?;
    let [open, closed, half] = &tasks[..] else { anyhow::bail!("three tasks") };
    add_rule(closed.inside.namespace(), "input", "udp dport 9000 drop")?;
    add_rule(half.inside.namespace(), "output", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let udp = |packets| Udp { family: Family::V4, flows: 2, packets, payload: 33 };
    let mut sent = Vec::new();
    for (packets, task) in (10..).zip(&tasks) {
        sent.push(udp(packets).send(&task.outside, &task.inside)?);
    }
    let refused = udp(5).send_refused(&half.inside, &half.outside)?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for (task, sent) in tasks.iter().zip(&sent) {
        books.assert_exact(&task.inside, Crossed::ingress(*sent));
    }
    assert_eq!(all_rejected(&books.records, &open.inside), Tally::default());
    assert_eq!(all_rejected(&books.records, &closed.inside), sent[1]);
    assert_eq!(all_rejected(&books.records, &half.inside), refused);
    assert_eq!(books.stopped(&half.inside), Crossed::egress(refused));
    Ok(())
}

#[test]
fn super_packets_that_are_dropped_count_as_what_they_stand_for() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    add_rule(task.inside.namespace(), "output", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        sent += segmented((&task.outside, &task.inside), family, 20, 9_500, 1_000)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside), sent);
    Ok(())
}

#[test]
fn a_transfer_whose_super_packets_are_dropped_adds_up() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    // Segments arrive, and only super-packets are dropped: TCP retransmits their segments one by
    // one.
    add_rule(task.inside.namespace(), "input", "tcp dport != 443 meta length > 4000 counter drop")?;
    let daemon = lab.daemon().start()?;
    let transfer = Transfer { family: Family::V4, request: 100, response: 400_000 };
    let connection = exchange(&task.inside, &task.outside, transfer)?;
    let books = Books::close(daemon, [&task.inside])?;
    let sent = Crossed { ingress: connection.from_server, egress: connection.from_client };
    books.assert_exact(&task.inside, sent);
    let rejected = rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER);
    assert_eq!(rejected, books.metrics.dropped(&task.inside, Direction::Ingress, NETFILTER));
    assert!(rejected.packets > 2, "{rejected}");
    let accepted: Tally =
        books.records.accepted(task.inside.mac()).values().map(|sum| sum.tally).sum();
    assert_eq!(accepted + rejected, sent.ingress + sent.egress);
    Ok(())
}

#[test]
fn an_interface_that_goes_while_it_drops_takes_nothing_with_it() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let stays = lab.task("stays")?;
    let goes = lab.task("goes")?;
    for task in [&stays, &goes] {
        add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    }
    let daemon = lab.daemon().start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 100, payload: 10 };
    let sent = udp.send(&goes.outside, &goes.inside)?;
    let mac = goes.inside.mac();
    drop(goes.end());
    daemon.wait("the interface is gone", |page| {
        page.get("observer_interfaces", &[("state", "attached")]) == Some(1.0)
    })?;
    let after = udp.send(&stays.outside, &stays.inside)?;
    let books = Books::close(daemon, [&stays.inside])?;
    books.assert_exact(&stays.inside, Crossed::ingress(after));
    assert_eq!(all_rejected(&books.records, &stays.inside), after);
    let rejected: Tally = books.records.rejected(mac).values().map(|sum| sum.tally).sum();
    assert_eq!(books.records.recorded(mac).ingress, sent);
    assert_eq!(rejected, sent);
    Ok(())
}
