//! Traffic of tasks before the daemon observes them.

use anyhow::Result;
use observer_tests::{lab, netns::Namespace, poll, records::Records};

use super::UDP;

#[test]
fn a_namespace_with_the_inode_of_one_from_before_the_daemon_is_a_new_one() -> Result<()> {
    let lab = lab!(alone);
    let older: Vec<_> = (0..4)
        .map(|number| lab.other_namespace(&format!("older-{number}")))
        .collect::<Result<_>>()?;
    let inodes: Vec<_> = older.iter().map(Namespace::inode).collect();
    let daemon = lab.daemon().start()?;
    drop(older);
    let (mut number, mut sent) = (0, 0);
    poll::until_true("an inode is used again", poll::PATIENCE, || {
        number += 1;
        daemon.freeze()?;
        let task = lab.late_task(&format!("early-{number}"))?;
        let early = UDP.send(&task.inside, &task.outside)?;
        daemon.thaw()?;
        daemon.wait_attached(&task.inside)?;
        sent += early.packets;
        let lost = daemon.metrics()?.sum("observer_lost_packets_total", &[("stage", "attach")]);
        assert_eq!(lost, sent, "lost before the programs came, with task {number}");
        Ok(inodes.contains(&task.inside.namespace().inode()))
    })
}

#[test]
fn what_a_task_sends_before_it_is_observed_is_counted_as_lost() -> Result<()> {
    let lab = lab!();
    let daemon = lab.daemon().start()?;
    // The daemon notices the task as late as possible.
    daemon.freeze()?;
    let task = lab.late_task("early")?;
    let early = UDP.send(&task.inside, &task.outside)?;
    daemon.thaw()?;
    daemon.wait_attached(&task.inside)?;
    let later = UDP.send(&task.inside, &task.outside)?;
    let page = daemon.metrics()?;
    assert_eq!(
        page.sum(
            "observer_lost_packets_total",
            &[("stage", "attach"), ("reason", "before_attach")]
        ),
        early.packets
    );
    let mac = task.inside.mac();
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac).egress, later, "records, and what was sent in time");
    assert_eq!(records.lost(mac), early, "SKIPDATA, and what was sent too early");
    Ok(())
}
