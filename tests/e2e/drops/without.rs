//! Drops without a policy, of no task, or invisible on this host: none of them becomes REJECT.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, bail};
use observer_tests::{
    books::Books,
    daemon::Setup,
    firewall::add_rule,
    lab,
    lab::Lab,
    need,
    records::{Record, Status},
    requires,
    tally::{Crossed, Direction, Tally},
    traffic::{
        PacketSocket, Udp,
        frames::{Ipv4, protocol, sound_tcp, tcp},
    },
    veth::Family,
};

use super::{all_rejected, crossed};

#[test]
fn closed_ports_are_accepted_and_counted() -> Result<()> {
    let lab = lab!();
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    for family in Family::ALL {
        let closed = SocketAddr::new(task.inside.address(family), 81);
        task.outside.namespace().run(|| {
            assert!(TcpStream::connect(closed).is_err());
            UdpSocket::bind((task.outside.address(family), 0))?.send_to(&[0; 50], closed)?;
            Ok(())
        })?;
    }
    let sent = crossed(&task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    let dropped = books.metrics.dropped(&task.inside, Direction::Ingress, "NO_SOCKET");
    assert_eq!(dropped, sent.ingress, "in\n{}", books.metrics.shown("observer_interface_dropped"));
    // Each of their records has the count.
    let noted = |record: &Record| record.number("undelivered_packets");
    for record in books.records.with_status(task.inside.mac(), Status::Ok) {
        let all = (record.text("flow_direction") == "ingress").then(|| record.number("packets"));
        assert_eq!(noted(record), all.flatten(), "{:?}", record.fields);
    }
    Ok(())
}

/// Empty segments after the end of a connection are no loss; data and SYNs are.
#[test]
fn segments_with_nothing_in_them_lose_nothing_at_a_closed_port() -> Result<()> {
    const SYN: u8 = 0x02;
    let lab = lab!();
    need!(requires::drop_reasons());
    let task = lab.task("task")?;
    let daemon = lab.daemon().start()?;
    let [IpAddr::V4(from), IpAddr::V4(to)] =
        [&task.outside, &task.inside].map(|it| it.address(Family::V4))
    else {
        bail!("IPv4 addresses")
    };
    // An ACK, a FIN and a reset; an ACK with data, and a SYN.
    let segments =
        [(0x10, 0, false), (0x11, 0, false), (0x14, 0, false), (0x18, 5, true), (SYN, 0, true)];
    let frames: Vec<_> = (2001..)
        .zip(segments)
        .map(|(port, (flags, payload, _))| {
            let mut segment = tcp(port, 81, flags);
            segment.resize(segment.len() + payload, 0x42);
            let segment = sound_tcp(from, to, segment);
            Ipv4 { destination: to, ..Ipv4::new(from, protocol::TCP, segment) }
                .frame_to(task.inside.mac())
        })
        .collect();
    PacketSocket::open(&task.outside)?.send(&frames)?;
    let sent = crossed(&task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, sent);
    let dropped = books.metrics.dropped(&task.inside, Direction::Ingress, "NO_SOCKET");
    assert_eq!(dropped.packets, segments.len() as u64);
    for (port, (flags, _, is_lost)) in (2001..).zip(segments) {
        let of = |record: &&Record| record.flow.is_some_and(|(_, flow)| flow.source_port == port);
        let record = books.records.of(task.inside.mac()).find(of).context("a record of each")?;
        let expected = is_lost.then_some(1);
        assert_eq!(
            record.number("undelivered_packets"),
            expected,
            "flags {flags:#04x}: {:?}",
            record.fields
        );
    }
    Ok(())
}

#[test]
fn drops_of_a_namespace_that_is_not_observed_are_nobodys() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    let task = lab.task("task")?;
    add_rule(task.outside.namespace(), "input", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 40, payload: 12 };
    let sent = udp.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    let shown = books.metrics.shown("observer_interface_dropped_packets_total{");
    assert_eq!(shown, "", "drops");
    Ok(())
}

/// A daemon that sees no drops records all packets as accepted, and logs that it sees none.
fn accepts_all(lab: &Lab, daemon: Setup<'_>, complaints: usize) -> Result<()> {
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    let daemon = daemon.start()?;
    let udp = Udp { family: Family::V4, flows: 3, packets: 20, payload: 10 };
    let sent = udp.send(&task.outside, &task.inside)?;
    let said = daemon.said();
    assert_eq!(said.matches("drops cannot be seen here").count(), complaints, "{said}");
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    for what in ["counts", "reasons"] {
        assert_eq!(
            books.metrics.get("observer_drops_visible", &[("what", what)]),
            Some(0.0),
            "{what}"
        );
    }
    Ok(())
}

#[test]
fn without_drops_all_is_accepted() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    accepts_all(&lab, lab.daemon().set("drops", "off"), 0)
}

#[test]
fn a_host_that_shows_no_drops_is_observed_without_them() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    accepts_all(&lab, lab.daemon().without(c"/sys/kernel/btf"), 1)
}

#[test]
fn a_kernel_that_says_no_reasons_has_drops_counted_and_none_rejected() -> Result<()> {
    let lab = lab!();
    need!(requires::program("nft"));
    need!(requires::no_drop_reasons());
    let task = lab.task("task")?;
    add_rule(task.inside.namespace(), "input", "udp dport 9000 drop")?;
    let daemon = lab.daemon().start()?;
    let mut sent = Tally::default();
    for family in Family::ALL {
        sent +=
            Udp { family, flows: 3, packets: 20, payload: 10 }.send(&task.outside, &task.inside)?;
    }
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    assert_eq!(all_rejected(&books.records, &task.inside), Tally::default());
    assert_eq!(books.metrics.dropped(&task.inside, Direction::Ingress, "unknown"), sent);
    for (what, shown) in [("counts", 1.0), ("reasons", 0.0)] {
        assert_eq!(
            books.metrics.get("observer_drops_visible", &[("what", what)]),
            Some(shown),
            "{what}"
        );
    }
    Ok(())
}
