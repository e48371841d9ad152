//! A full cache and a full ring, as in `e2e`, with a number of flows that an emulated processor
//! sends in seconds.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
    },
};

#[test]
fn what_neither_cache_nor_ring_holds_is_lost_by_number() -> Result<()> {
    // More than the minimum memory holds, and none is drained meanwhile.
    const FLOWS: u32 = 80_000;
    let lab = lab!(alone);
    let task = lab.task("task")?;
    let daemon = lab.daemon().window(600).set("flow-memory", "4MiB").start()?;
    let mut packet = Ipv4::new([10, 0, 0, 0].into(), protocol::UDP, udp(1, 53, 7));
    let frames = (0..FLOWS).map(|number| {
        packet.source = (u32::from_be_bytes([10, 0, 0, 0]) + number).into();
        packet.frame()
    });
    daemon.freeze()?;
    let sent = PacketSocket::open(&task.outside)?.send(frames)?;
    daemon.thaw()?;
    let sent = Tally::new(sent.packets, sent.bytes - sent.packets * LINK_HEADER);
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::ingress(sent));
    let lost = books.lost(&task.inside);
    assert!(lost.packets > 0 && lost.packets < sent.packets, "{lost} of {sent} are lost");
    Ok(())
}
