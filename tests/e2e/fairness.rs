//! A noisy task costs another no record until the other has used its fair share.

use std::net::Ipv4Addr;

use anyhow::{Result, bail};
use observer_tests::{
    books::Books,
    lab,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
    },
    veth::Interface,
};

/// Sends one packet of each flow; their sources begin at `network`.
fn send(from: &Interface, network: [u8; 4], flows: u32) -> Result<Tally> {
    let mut template = Ipv4::new(Ipv4Addr::UNSPECIFIED, protocol::UDP, udp(1, 53, 40));
    let frames = (0..flows).map(|number| {
        template.source = (u32::from_be_bytes(network) + number).into();
        template.frame()
    });
    let sent = PacketSocket::open(from)?.send(frames)?;
    Ok(Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER))
}

#[test]
fn a_noisy_task_fills_cache_and_ring_and_its_neighbour_loses_nothing() -> Result<()> {
    let lab = lab!(alone);
    let tasks = lab.tasks(["loud", "calm"].map(String::from))?;
    let [loud, calm] = &tasks[..] else { bail!("two tasks") };
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    // Nothing is drained meanwhile.
    daemon.freeze()?;
    let (mut noise, mut calmness) = (Tally::default(), Tally::default());
    for round in 0..3 {
        noise += send(&loud.outside, [10, round, 0, 0], 60_000)?;
        calmness += send(&calm.outside, [10, round, 0, 0], 200)?;
    }
    noise += send(&loud.outside, [10, 9, 0, 0], 60_000)?;
    daemon.thaw()?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    books.assert_conserved(&loud.inside, Crossed::ingress(noise));
    books.assert_exact(&calm.inside, Crossed::ingress(calmness));
    assert!(books.lost(&loud.inside).packets > 60_000, "the noise filled nothing");
    Ok(())
}

#[test]
fn a_window_is_full_for_the_task_that_filled_it() -> Result<()> {
    let lab = lab!(alone);
    let tasks = lab.tasks(["loud", "calm"].map(String::from))?;
    let [loud, calm] = &tasks[..] else { bail!("two tasks") };
    let daemon = lab.daemon().window(600).set("max-flows", "4000").start()?;
    let noise = send(&loud.outside, [10, 1, 0, 0], 20_000)?;
    let full = [("stage", "window"), ("reason", "window_full")];
    daemon.wait("the noise is drained", |page| {
        page.sum("observer_lost_packets_total", &full) == 16_000
    })?;
    let calmness = send(&calm.outside, [10, 1, 0, 0], 1_500)?;
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    books.assert_conserved(&loud.inside, Crossed::ingress(noise));
    books.assert_exact(&calm.inside, Crossed::ingress(calmness));
    let lost = books.lost(&loud.inside);
    assert_eq!(lost.packets, 16_000, "one packet of each flow but the first 4,000");
    let told = |name| books.metrics.sum(name, &full);
    let told = Tally::new(told("observer_lost_packets_total"), told("observer_lost_bytes_total"));
    assert_eq!(told, lost);
    Ok(())
}
