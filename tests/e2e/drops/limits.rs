//! Many drops among many packets, at window edges, with full tables and with unreadable headers.

use anyhow::Result;
use observer_tests::{
    books::Books,
    firewall::add_rule,
    lab,
    lab::Lab,
    need, requires,
    tally::{Crossed, Direction, Tally},
    traffic::{
        PacketSocket, SINK, Udp,
        frames::{self, LINK_HEADER, protocol},
    },
    veth::{Family, Task},
};

use super::{NETFILTER, all_rejected, rejected, unbooked};

#[test]
fn a_few_drops_among_a_million_packets_are_told_apart() -> Result<()> {
    let lab = lab!(alone);
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    // 10,000 of 1,010,000: one flow in 101
    let last = Udp::FIRST_PORT + 100;
    add_rule(task.inside.namespace(), "input", &format!("udp sport {last} drop"))?;
    let daemon = lab.daemon().start()?;
    let udp = Udp { family: Family::V4, flows: 101, packets: 10_000, payload: 20 };
    let sent = udp.send(&task.outside, &task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    for (((_, flow), reason), _) in books.records.rejected(task.inside.mac()) {
        assert_eq!((flow.source_port, reason.as_str()), (last, NETFILTER), "a false REJECT");
    }
    // A packet that is counted in one window and dropped in the next is recorded as accepted.
    let late = unbooked(&books, "late");
    let told = all_rejected(&books.records, &task.inside).packets;
    assert_eq!(told + late, 10_000, "{told} rejected, {late} too late");
    assert!(late <= 1, "{late} too late");
    Ok(())
}

#[test]
fn more_drops_than_sixteen_bits_hold_are_counted() -> Result<()> {
    let lab = lab!(alone);
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    let daemon = lab.daemon().window(600).start()?;
    let udp = Udp { family: Family::V6, flows: 1, packets: 70_000, payload: 8 };
    let sent = udp.send(&task.outside, &task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let told = all_rejected(&books.records, &task.inside).packets;
    assert_eq!(told + unbooked(&books, "late"), 70_000);
    Ok(())
}

#[test]
fn drops_add_up_over_windows() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let half = Udp::FIRST_PORT + 2;
    add_rule(task.inside.namespace(), "input", &format!("udp sport {half}-65535 drop"))?;
    add_rule(task.inside.namespace(), "output", &format!("udp sport {half}-65535 drop"))?;
    let daemon = lab.daemon().window(1).start()?;
    let windows = || Ok::<_, anyhow::Error>(daemon.metrics()?.sum("observer_windows_total", &[]));
    let last = windows()? + 4;
    let (mut sent, mut dropped) = (Tally::default(), Tally::default());
    let udp = Udp { family: Family::V4, flows: 4, packets: 50, payload: 64 };
    while windows()? < last {
        sent += udp.send(&task.outside, &task.inside)?;
        dropped += udp.per_flow() + udp.per_flow();
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let rejected = rejected(&books.records, &task.inside, Direction::Ingress, NETFILTER);
    let late = unbooked(&books, "late");
    assert_eq!(rejected.packets + late, dropped.packets);
    for (((_, flow), _), _) in books.records.rejected(task.inside.mac()) {
        assert!(flow.source_port >= half, "a false REJECT of {flow:?}");
    }
    Ok(())
}

/// Frames to the task's MAC address, which its stack processes.
fn datagrams_to(task: &Task, count: u16) -> Vec<Vec<u8>> {
    let (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) =
        (task.outside.address(Family::V4), task.inside.address(Family::V4))
    else {
        return Vec::new();
    };
    (0..count)
        .map(|port| {
            let mut packet =
                frames::Ipv4::new(source, protocol::UDP, frames::udp(1000 + port, SINK, 40));
            packet.destination = destination;
            packet.frame_to(task.inside.mac())
        })
        .collect()
}

#[test]
fn headers_that_cannot_be_read_stay_accepted_and_are_counted() -> Result<()> {
    const COUNT: u64 = 30;
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    // Behind this hook, the stack has moved the ports into the buffer's linear part.
    add_rule(task.inside.namespace(), "prerouting", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let frames = datagrams_to(&task, COUNT as u16);
    let mut sent = PacketSocket::open(&task.outside)?.send(&frames)?;
    sent += PacketSocket::open(&task.outside)?.send_not_linear(&frames)?;
    sent.bytes -= sent.packets * LINK_HEADER;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Ingress, NETFILTER), sent);
    assert_eq!(all_rejected(&books.records, &task.inside).packets, COUNT);
    assert_eq!(unbooked(&books, "unread"), COUNT);
    Ok(())
}

/// Sends a datagram in each of `flows` flows while the daemon is stopped; returns the packets that
/// the table had no room for.
fn overflow(
    lab: &Lab,
    hook: &str,
    traffic: impl Fn(&Udp, &Task) -> Result<Tally>,
) -> Result<(Books, Task, Tally)> {
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), hook, "udp dport 9000 drop")?;
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    daemon.freeze()?;
    let udp = Udp { family: Family::V4, flows: 5_000, packets: 1, payload: 10 };
    let sent = traffic(&udp, &task)?;
    daemon.thaw()?;
    let books = Books::close(daemon, [&task.inside])?;
    Ok((books, task, sent))
}

#[test]
fn what_a_full_table_of_drops_cannot_hold_stays_accepted_and_is_counted() -> Result<()> {
    let lab = lab!(alone);
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let (books, task, sent) =
        overflow(&lab, "input", |udp, task| udp.send(&task.outside, &task.inside))?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let told = all_rejected(&books.records, &task.inside).packets;
    let full = unbooked(&books, "table_full");
    assert!(told > 0 && full > 0, "{told} rejected, no room for {full}");
    assert_eq!(told + full + unbooked(&books, "late"), sent.packets);
    Ok(())
}

#[test]
fn what_is_stopped_and_finds_the_table_full_is_lost_by_number() -> Result<()> {
    let lab = lab!(alone);
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let (books, task, refused) =
        overflow(&lab, "output", |udp, task| udp.send_refused(&task.inside, &task.outside))?;
    books.assert_conserved(&task.inside, Crossed::default());
    assert_eq!(books.stopped(&task.inside), Crossed::egress(refused));
    let (told, lost) = (all_rejected(&books.records, &task.inside), books.lost(&task.inside));
    assert!(told.packets > 0 && lost.packets > 0, "{told} rejected, {lost} lost");
    assert_eq!(told + lost, refused);
    let labels = [("stage", "kernel"), ("reason", "drop_unbooked")];
    assert_eq!(books.metrics.sum("observer_lost_packets_total", &labels), lost.packets);
    Ok(())
}

#[test]
fn a_full_window_rejects_what_it_has_room_for_and_counts_the_rest() -> Result<()> {
    let lab = lab!(alone);
    need!(requires::program("nft"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    for hook in ["input", "output"] {
        add_rule(task.inside.namespace(), hook, "udp dport 9000 drop")?;
    }
    let daemon = lab.daemon().window(600).set("max-flows", "100").start()?;
    let flows = |flows| Udp { family: Family::V4, flows, packets: 1, payload: 10 };
    // All in one drain: 60 counted flows, and then 60 with a drop.
    daemon.freeze()?;
    let sent = flows(60).send(&task.outside, &task.inside)?;
    daemon.thaw()?;
    let full = [("cause", "window_full")];
    let name = "observer_unbooked_rejects_packets_total";
    daemon.wait("the window is full", |page| page.sum(name, &full) == 20)?;
    let refused = flows(30).send_refused(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside).packets, 40);
    assert_eq!(unbooked(&books, "window_full"), 20);
    assert_eq!(books.stopped(&task.inside), Crossed::egress(refused));
    assert_eq!(books.lost(&task.inside), refused);
    Ok(())
}
