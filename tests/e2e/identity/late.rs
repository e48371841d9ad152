//! Names that become known after the traffic, and after the task.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;
use observer_tests::{
    books::Books,
    fake_agent,
    fake_ecs::FakeTask,
    lab, poll,
    records::{Records, Status},
    tally::Crossed,
    veth::Task,
};

use super::{UDP, up, wait_label};

#[test]
fn records_wait_for_a_late_eni_for_one_window_at_most() -> Result<()> {
    let lab = lab!();
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [])?;
    let daemon =
        lab.daemon().window(6).sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
    // Everything that follows happens in one window, the first of these interfaces.
    daemon.wait_windows(1)?;
    let tasks = [lab.late_task("late")?, lab.late_task("never")?];
    let [late, never] = &tasks;
    let mut late_ecs = FakeTask::new(&late.inside, "web", 0x150);
    let mut never_ecs = FakeTask::new(&never.inside, "web", 0x151);
    let eni = std::mem::take(&mut late_ecs.eni);
    never_ecs.eni.clear();
    fake_agent::write_state(&folder, [&late_ecs, &never_ecs])?;
    for (task, ecs) in [(late, &late_ecs), (never, &never_ecs)] {
        wait_label(&daemon, task, "task_id", &ecs.id)?;
    }
    let mut sent = Vec::new();
    for task in &tasks {
        sent.push(UDP.send(&task.inside, &task.outside)?);
    }
    daemon.wait_windows(1)?;
    late_ecs.eni.clone_from(&eni);
    fake_agent::write_state(&folder, [&late_ecs, &never_ecs])?;
    wait_label(&daemon, late, "interface_id", &eni)?;
    // Unknown fields are left out, and later windows do not wait.
    daemon.wait("the records of the first window are written", |page| {
        page.sum("observer_records_total", &[("log_status", "OK")]) >= 4
    })?;
    let books = Books::close(daemon, [&late.inside, &never.inside])?;
    for (task, sent) in tasks.iter().zip(sent) {
        books.assert_exact(&task.inside, Crossed::egress(sent));
    }
    let ids = |task: &Task| -> BTreeSet<String> {
        let records = books.records.with_status(task.inside.mac(), Status::Ok);
        records.iter().map(|record| record.text("interface_id").to_owned()).collect()
    };
    assert_eq!(ids(late), [eni].into(), "ids of the one that was late");
    assert_eq!(ids(never), [never.inside.id()].into(), "ids of the one that never came");
    Ok(())
}

#[test]
fn a_task_that_is_gone_when_its_eni_becomes_known_is_named_all_the_same() -> Result<()> {
    let lab = lab!();
    let task = lab.late_task("short")?;
    let mut ecs = FakeTask::new(&task.inside, "web", 0x160);
    let eni = std::mem::take(&mut ecs.eni);
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [&ecs])?;
    let daemon =
        lab.daemon().window(3).sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
    wait_label(&daemon, &task, "task_id", &ecs.id)?;
    let mac = task.inside.mac();
    let sent = UDP.send(&task.inside, &task.outside)?;
    drop(task.end());
    daemon.wait("the interface is gone", |page| {
        page.get("observer_interfaces", &[("state", "attached")]) == Some(0.0)
    })?;
    ecs.eni.clone_from(&eni);
    fake_agent::write_state(&folder, [&ecs])?;
    let out = daemon.out().to_path_buf();
    daemon.wait("its records are written", |page| {
        page.sum("observer_records_total", &[("log_status", "OK")]) >= 2
    })?;
    daemon.stop()?;
    let records = Records::read(&out)?;
    assert_eq!(records.recorded(mac), Crossed::egress(sent));
    for record in records.with_status(mac, Status::Ok) {
        assert_eq!(record.text("interface_id"), eni);
    }
    Ok(())
}

#[test]
fn a_source_that_comes_later_is_heard() -> Result<()> {
    static ROUND: AtomicU32 = AtomicU32::new(0x190);
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", ROUND.fetch_add(1, Ordering::Relaxed));
    let folder = lab.path("agent");
    let daemon = lab.daemon().sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
    daemon.wait("it is down", |page| up(page, "agent") == Some(0.0))?;
    fake_agent::write_state(&folder, [&ecs])?;
    wait_label(&daemon, &task, "interface_id", &ecs.eni)?;
    poll::until_true("it is up", poll::PATIENCE, || {
        Ok(up(&daemon.metrics()?, "agent") == Some(1.0))
    })?;
    daemon.stop()?;
    Ok(())
}
