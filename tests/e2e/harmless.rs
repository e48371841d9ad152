//! The daemon's coming and going costs nobody a packet.

use anyhow::Result;
use observer_tests::{
    lab,
    lab::Lab,
    need, requires,
    traffic::Echo,
    veth::Family,
};

/// Starts and stops daemons on an interface that is in use.
fn come_and_go(lab: &Lab, attach: &str) -> Result<()> {
    let task = lab.task("task")?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    for _ in 0..3 {
        let daemon = lab.daemon().arg("--attach").arg(attach).start()?;
        daemon.wait("the traffic is seen", |page| {
            page.ledger(&task.inside).is_some_and(|[ingress, _]| ingress.seen.packets > 0)
        })?;
        daemon.stop()?;
    }
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
    let rounds = echo.stop()?;
    assert_eq!(task.inside.counters()?.frames.ingress.packets, rounds, "questions that arrived, and asked");
    assert_eq!(task.inside.counters()?.frames.egress.packets, rounds, "answers that left, and came");
    Ok(())
}

#[test]
fn no_datagram_is_lost_while_tcx_comes_and_goes() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    come_and_go(&lab, "tcx")
}

#[test]
fn no_datagram_is_lost_while_clsact_comes_and_goes() -> Result<()> {
    let lab = lab!();
    come_and_go(&lab, "clsact")
}

#[test]
fn a_daemon_that_is_killed_stops_no_traffic() -> Result<()> {
    use nix::sys::signal::Signal;

    let lab = lab!();
    let task = lab.task("task")?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V6)?;
    for attach in ["auto", "clsact"] {
        let daemon = lab.daemon().arg("--attach").arg(attach).start()?;
        daemon.signal(Signal::SIGKILL)?;
        drop(daemon);
        // What the killed one left behind does not keep the next from starting.
        lab.daemon().arg("--attach").arg(attach).start()?.stop()?;
    }
    assert!(echo.goes_on(), "a datagram was lost");
    echo.stop()?;
    Ok(())
}
