//! Frames that an interface carries and no hook sees.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    records::Status,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket, Transfer, Udp, exchange,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
    },
    veth::{Family, Interface},
};

/// Sends datagrams that bypass the queueing discipline and the hook; returns their layer 3 packets
/// and bytes.
fn send_past(interface: &Interface, count: usize) -> Result<Tally> {
    let frame = Ipv4::new([10, 0, 4, 128].into(), protocol::UDP, udp(4000, 4000, 20)).frame();
    let socket = PacketSocket::open(interface)?.bypass_queues()?;
    let sent = socket.send(std::iter::repeat_n(&frame, count))?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

#[test]
fn frames_sent_past_the_hook_are_losses_of_their_own() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    daemon.wait_attached(&task.inside)?;
    // The first comparison gives the base of the next.
    daemon.wait_windows(2)?;
    let past = send_past(&task.inside, 50)?;
    let page = daemon.wait("they are told", |page| {
        page.uncounted(&task.inside, "unseen").egress.packets >= past.packets
    })?;
    assert_eq!(page.uncounted(&task.inside, "unseen"), Crossed::egress(past));
    let id = page.info(&task.inside).map_or("", |info| info.label("interface"));
    let labels = [("interface", id), ("direction", "egress")];
    for (name, value) in [
        ("unseen_packets", past.packets),
        ("unseen_bytes", past.bytes),
        ("carried_packets", past.packets),
        ("carried_bytes", past.bytes + past.packets * LINK_HEADER),
    ] {
        assert_eq!(page.sum(&format!("observer_interface_{name}_total"), &labels), value, "{name}");
    }
    daemon.wait_windows(1)?;
    let books = Books::close(daemon, [&task.inside])?;
    assert_eq!(books.records.lost(task.inside.mac()), past, "SKIPDATA");
    Ok(())
}

/// With other traffic at the same time, a part of them is reported, and never more than there were.
#[test]
fn ordinary_traffic_is_exact_beside_frames_sent_past_the_hook() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(1).start()?;
    daemon.wait_attached(&task.inside)?;
    daemon.wait_windows(2)?;
    let (mut past, mut seen) = (Tally::default(), Crossed::default());
    for round in 0..6 {
        past += send_past(&task.inside, 100)?;
        let family = if round % 2 == 0 { Family::V4 } else { Family::V6 };
        let udp = Udp { family, flows: 3, packets: 20, payload: 100 };
        seen += Crossed {
            ingress: udp.send(&task.outside, &task.inside)?,
            egress: udp.send(&task.inside, &task.outside)?,
        };
        let transfer = Transfer { family, request: 1000, response: 500_000 };
        let connection = exchange(&task.inside, &task.outside, transfer)?;
        seen += Crossed { ingress: connection.from_server, egress: connection.from_client };
        daemon.wait_windows(1)?;
    }
    // Once there is no traffic, all of them are found.
    let told = |page: &observer_tests::metrics::Metrics| page.uncounted(&task.inside, "unseen");
    daemon.wait("some of it is told", |page| told(page).egress.packets > 0)?;
    daemon.wait_windows(3)?;
    let books = Books::close(daemon, [&task.inside])?;
    let told = told(&books.metrics);
    assert!(told.egress.packets <= past.packets, "{told} of {past}");
    assert!(told.egress.bytes <= past.bytes, "{told} of {past}");
    assert_eq!(told.ingress, Tally::default());
    for (direction, ledger) in
        observer_tests::tally::Direction::ALL.into_iter().zip(books.ledger(&task.inside))
    {
        assert_eq!(ledger.seen, seen.get(direction), "{direction}: ledger, and what was sent");
        let recorded = books.records.recorded(task.inside.mac()).get(direction);
        assert_eq!(
            recorded + ledger.lost,
            ledger.seen + told.get(direction),
            "{direction}: records and losses"
        );
    }
    assert_eq!(books.records.lost(task.inside.mac()), told.egress, "SKIPDATA");
    Ok(())
}

/// A window with unseen frames has no NODATA record.
#[test]
fn an_interface_with_nothing_but_unseen_frames_has_skipdata() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(2).start()?;
    daemon.wait_attached(&task.inside)?;
    daemon.wait_windows(2)?;
    for _ in 0..3 {
        send_past(&task.inside, 10)?;
        daemon.wait_windows(1)?;
    }
    daemon.wait("all of it is told", |page| {
        page.uncounted(&task.inside, "unseen").egress.packets == 30
    })?;
    daemon.wait_windows(1)?;
    let books = Books::close(daemon, [&task.inside])?;
    let skipped = books.records.with_status(task.inside.mac(), Status::SkipData);
    assert!(
        skipped.iter().all(|record| record.tally.packets > 0) && !skipped.is_empty(),
        "{skipped:?}"
    );
    assert_eq!(skipped.iter().map(|record| record.tally.packets).sum::<u64>(), 30);
    Ok(())
}
