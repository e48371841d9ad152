//! Starting and stopping the daemon costs no packet.

use anyhow::Result;
use nix::sys::signal::Signal;
use observer_tests::{
    lab,
    lab::Lab,
    need, requires,
    traffic::Echo,
    veth::{Family, Task},
};

/// A task whose interface already has a clsact qdisc. To add or remove one on a running interface,
/// the kernel stops its queues for a few hundred microseconds (`qdisc_graft`), which costs packets.
fn task_with_clsact(lab: &Lab) -> Result<Task> {
    let task = lab.task("task")?;
    task.inside.namespace().output("tc", &["qdisc", "add", "dev", task.inside.name(), "clsact"])?;
    Ok(task)
}

/// Starts and stops daemons on an interface with traffic.
fn come_and_go(lab: &Lab, task: &Task, attach: &str) -> Result<()> {
    let echo = Echo::start(&task.outside, &task.inside, Family::V4)?;
    for _ in 0..3 {
        let daemon = lab.daemon().set("attach", attach).start()?;
        daemon.wait("the traffic is seen", |page| {
            page.ledger(&task.inside).is_some_and(|[ingress, _]| ingress.seen.packets > 0)
        })?;
        daemon.stop()?;
    }
    assert!(echo.goes_on(), "a datagram was lost: {:?}", echo.stop());
    let rounds = echo.stop()?;
    assert_eq!(
        task.inside.counters()?.frames.ingress.packets,
        rounds,
        "questions that arrived, and asked"
    );
    assert_eq!(
        task.inside.counters()?.frames.egress.packets,
        rounds,
        "answers that left, and came"
    );
    Ok(())
}

#[test]
fn no_datagram_is_lost_while_tcx_comes_and_goes() -> Result<()> {
    let lab = lab!();
    need!(requires::linux(6, 6));
    come_and_go(&lab, &lab.task("task")?, "tcx")
}

#[test]
fn no_datagram_is_lost_while_clsact_comes_and_goes() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    come_and_go(&lab, &task_with_clsact(&lab)?, "clsact")
}

#[test]
fn a_daemon_that_is_killed_stops_no_traffic() -> Result<()> {
    let lab = lab!();
    need!(requires::program("tc"));
    let task = task_with_clsact(&lab)?;
    let echo = Echo::start(&task.outside, &task.inside, Family::V6)?;
    for attach in ["auto", "clsact"] {
        let daemon = lab.daemon().set("attach", attach).start()?;
        daemon.signal(Signal::SIGKILL)?;
        drop(daemon);
        // Leftovers of the killed daemon do not keep the next from starting, and are removed by it.
        lab.daemon().set("attach", attach).start()?.stop()?;
        for side in ["ingress", "egress"] {
            let filters = ["filter", "show", "dev", task.inside.name(), side];
            let left = task.inside.namespace().output("tc", &filters)?;
            assert_eq!(left, "", "{side} filters that are left of {attach}");
        }
    }
    assert!(echo.goes_on(), "a datagram was lost");
    echo.stop()?;
    Ok(())
}
