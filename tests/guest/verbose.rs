//! Programs with diagnostics enabled: different code, which the verifier must accept as well.

use anyhow::Result;
use observer_tests::{
    books::Books,
    lab,
    tally::{Crossed, Tally},
    traffic::{
        PacketSocket, Udp,
        frames::{Ipv4, LINK_HEADER, protocol, udp},
    },
    veth::Family,
};

#[test]
fn programs_that_log_load_speak_and_count_exactly() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let daemon = lab.daemon().set("log-level", "debug").start()?;
    let plain = Udp { family: Family::V4, flows: 3, packets: 10, payload: 100 }
        .send(&task.inside, &task.outside)?;
    let mut unreadable = Ipv4::new([10, 9, 0, 1].into(), protocol::UDP, udp(1, 2, 30));
    unreadable.version_and_length = Some(0x55);
    let frames = PacketSocket::open(&task.inside)?.send([unreadable.frame()])?;
    let lost = Tally::new(frames.packets, frames.bytes - frames.packets * LINK_HEADER);
    daemon.wait_said("packet lost, reason")?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_conserved(&task.inside, Crossed::egress(plain + lost));
    assert_eq!(books.lost(&task.inside), lost, "lost");
    Ok(())
}
