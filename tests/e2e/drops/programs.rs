//! Third-party eBPF programs that drop packets, on every hook.

use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    foreign::{self, Group, Hook},
    lab, need, requires,
    tally::{Crossed, Direction, Tally},
    traffic::{Udp, frames::LINK_HEADER},
    veth::{Family, Task},
};

use super::{all_rejected, crossed, knocking, rejected};

/// A third-party TC program behind the daemon's drops long packets.
fn drops_in_tc(attach: &str) -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("attach", attach).start()?;
    for hook in [Hook::TcIngress, Hook::TcEgress] {
        foreign::drop_longer(&lab, &task.inside, hook, 500)?;
    }
    let short = |family| Udp { family, flows: 2, packets: 30, payload: 100 };
    let long = |family| Udp { payload: 1_000, ..short(family) };
    let (mut sent, mut dropped) = (Crossed::default(), Crossed::default());
    for family in Family::ALL {
        sent.ingress += short(family).send(&task.outside, &task.inside)?;
        dropped.ingress += long(family).send(&task.outside, &task.inside)?;
        sent.egress += short(family).send(&task.inside, &task.outside)?;
        // The sender gets no error.
        dropped.egress += long(family).send(&task.inside, &task.outside)?;
    }
    // The interface does not count packets dropped on egress.
    let mut books = Books::close(daemon, [&task.inside])?;
    let counters =
        books.counters.get_mut(&task.inside.mac()).context("the interface's counters")?;
    counters.frames.egress += Tally::new(
        dropped.egress.packets,
        dropped.egress.bytes + dropped.egress.packets * LINK_HEADER,
    );
    books.assert_exact(&task.inside, sent + dropped);
    assert_eq!(
        rejected(&books.records, &task.inside, Direction::Ingress, "TC_INGRESS"),
        dropped.ingress
    );
    assert_eq!(
        rejected(&books.records, &task.inside, Direction::Egress, "TC_EGRESS"),
        dropped.egress
    );
    assert_eq!(all_rejected(&books.records, &task.inside), dropped.ingress + dropped.egress);
    Ok(())
}

#[test]
fn what_a_filter_behind_clsact_drops_is_rejected() -> Result<()> {
    drops_in_tc("clsact")
}

#[test]
fn what_a_filter_behind_tcx_drops_is_rejected() -> Result<()> {
    need!(requires::linux(6, 6));
    drops_in_tc("tcx")
}

#[test]
fn what_xdp_drops_is_counted_and_never_crossed() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ip"));
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    foreign::drop_longer(&lab, &task.inside, Hook::Xdp { mode: "xdpgeneric" }, 500)?;
    let short = |family| Udp { family, flows: 2, packets: 30, payload: 100 };
    let (mut sent, mut dropped) = (Tally::default(), Tally::default());
    for family in Family::ALL {
        sent += short(family).send(&task.outside, &task.inside)?;
        dropped += Udp { payload: 1_000, ..short(family) }.send(&task.outside, &task.inside)?;
    }
    // Attaching a program makes IPv6 send packets.
    let crossed = Crossed { ingress: sent, egress: crossed(&task.inside)?.egress };
    // The interface counts all received packets, dropped or not.
    let mut books = Books::close(daemon, [&task.inside])?;
    let counters =
        books.counters.get_mut(&task.inside.mac()).context("the interface's counters")?;
    counters.frames.ingress = counters.frames.ingress
        - Tally::new(dropped.packets, dropped.bytes + dropped.packets * LINK_HEADER);
    books.assert_exact(&task.inside, crossed);
    // Linux gives no reason here: its XDP reason is for failed redirects.
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Ingress, "NOT_SPECIFIED"), dropped);
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    Ok(())
}

#[test]
fn what_a_control_group_may_not_send_is_rejected_and_never_crossed() -> Result<()> {
    let lab = lab!();
    need!(requires::program("ping"));
    need!(requires::drop_reason("BPF_CGROUP_EGRESS"));
    let task = lab.task("task")?;
    let group = Group::that_drops_longer(&lab, Direction::Egress, 500)?;
    let daemon = lab.daemon().start()?;
    let (mut sent, mut dropped) = (Tally::default(), Tally::default());
    for family in Family::ALL {
        for (payload, tally) in [(56, &mut sent), (1_000, &mut dropped)] {
            let (mut ping, requests) = knocking(&task.inside, &task.outside, family, 5, payload)?;
            group.place(&mut ping)?;
            ping.status().context("starting ping")?;
            *tally += requests;
        }
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed { ingress: sent, egress: sent });
    assert_eq!(books.stopped(&task.inside), Crossed::egress(dropped));
    assert_eq!(
        rejected(&books.records, &task.inside, Direction::Egress, "BPF_CGROUP_EGRESS"),
        dropped
    );
    assert_eq!(all_rejected(&books.records, &task.inside), dropped);
    Ok(())
}

/// Sends a few datagrams of 100 and a few of 1,000 bytes to a port, in a flow each; returns their
/// packets and bytes.
fn short_and_long(task: &Task, to: SocketAddr) -> Result<[Tally; 2]> {
    const COUNT: u64 = 30;
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let mut sent = [Tally::default(); 2];
    for (payload, tally) in [100_u64, 1_000].into_iter().zip(&mut sent) {
        let socket = task
            .outside
            .namespace()
            .run(|| Ok(UdpSocket::bind((task.outside.address(family), 0))?))?;
        for _ in 0..COUNT {
            socket.send_to(&vec![0; payload as usize], to)?;
        }
        *tally = Tally::of(COUNT, family.header() + 8 + payload);
    }
    Ok(sent)
}

#[test]
fn what_a_control_group_may_not_receive_is_rejected() -> Result<()> {
    let lab = lab!();
    // The tracepoint has the receiving socket, which distinguishes its own filter from its group's.
    need!(requires::linux(6, 11));
    let task = lab.task("task")?;
    let group = Group::that_drops_longer(&lab, Direction::Ingress, 500)?;
    let daemon = lab.daemon().start()?;
    let [mut short, mut long] = [Tally::default(); 2];
    for family in Family::ALL {
        let address = SocketAddr::new(task.inside.address(family), 9001);
        let listener = group.listen(task.inside.namespace(), address)?;
        let sent = short_and_long(&task, address)?;
        drop(listener);
        short += sent[0];
        long += sent[1];
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(short + long));
    assert_eq!(rejected(&books.records, &task.inside, Direction::Ingress, "SOCKET_FILTER"), long);
    assert_eq!(all_rejected(&books.records, &task.inside), long);
    Ok(())
}

#[test]
fn what_a_task_filters_itself_is_accepted_and_counted() -> Result<()> {
    let lab = lab!();
    need!(requires::drop_reason("SOCKET_FILTER"));
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        let address = SocketAddr::new(task.inside.address(family), 9001);
        let socket = task.inside.namespace().run(|| Ok(UdpSocket::bind(address)?))?;
        foreign::deafen(&socket)?;
        sent += short_and_long(&task, address)?.into_iter().sum();
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Ingress, "SOCKET_FILTER"), sent);
    Ok(())
}
