//! The ECS agent: a database that is being written, endpoints that throttle or restart, secrets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;
use observer_tests::{
    books::Books,
    fake_agent::{self, Shared},
    fake_ecs::FakeTask,
    lab,
    records::Status,
    tally::Crossed,
};

use super::{UDP, asking, up, wait_label};

#[test]
fn an_agents_database_that_is_being_written_gives_no_wrong_name() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks((0..4).map(|number| format!("task-{number}")))?;
    let all: Vec<_> = (0_u32..)
        .zip(&tasks)
        .map(|(number, task)| {
            FakeTask::new(&task.inside, &format!("service-{number}"), 0x110 + number)
        })
        .collect();
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, &all)?;
    let done = Arc::new(AtomicBool::new(false));
    let (writing, ended) = (all.clone(), Arc::clone(&done));
    let target = folder.clone();
    let writer = thread::spawn(move || -> Result<u32> {
        let mut rounds = 0;
        while !ended.load(Ordering::Relaxed) {
            // Of varying length, so that database pages split, merge and are reused.
            let mut tasks = writing.clone();
            for (number, task) in tasks.iter_mut().enumerate() {
                task.containers = vec!["c".repeat(64); 1 + (rounds as usize * 7 + number) % 60];
            }
            fake_agent::write_state(&target, &tasks)?;
            rounds += 1;
        }
        Ok(rounds)
    });
    let daemon =
        lab.daemon().window(1).sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
    for (task, ecs) in tasks.iter().zip(&all) {
        wait_label(&daemon, task, "interface_id", &ecs.eni)?;
    }
    let mut sent = Vec::new();
    for task in &tasks {
        sent.push(UDP.send(&task.inside, &task.outside)?);
    }
    daemon.wait_windows(3)?;
    done.store(true, Ordering::Relaxed);
    let rounds = writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    assert!(rounds > 10, "{rounds} transactions");
    let books = Books::close(daemon, tasks.iter().map(|task| &task.inside))?;
    for ((task, ecs), sent) in tasks.iter().zip(&all).zip(sent) {
        books.assert_exact(&task.inside, Crossed::egress(sent));
        for record in books.records.with_status(task.inside.mac(), Status::Ok) {
            assert_eq!(record.text("interface_id"), ecs.eni);
            assert_eq!(record.text("ecs_task_arn"), ecs.arn_of_task());
            assert_eq!(record.text("ecs_service_name"), ecs.service.as_deref().unwrap_or(""));
        }
    }
    Ok(())
}

#[test]
fn a_task_metadata_endpoint_that_throttles_is_left_in_peace() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks((0..3).map(|number| format!("task-{number}")))?;
    let all: Vec<_> = (0_u32..)
        .zip(&tasks)
        .map(|(number, task)| {
            FakeTask::new(&task.inside, &format!("service-{number}"), 0x130 + number)
        })
        .collect();
    let folder = lab.path("agent");
    // The state contains the endpoint IDs; names of services are irrelevant here.
    fake_agent::write_state(&folder, &all)?;
    let tmds = fake_agent::tmds(&Shared::new(all.clone()))?;
    tmds.throttled.store(4, Ordering::Relaxed);
    let daemon = lab
        .daemon()
        .sources(&["netns", "agent", "tmds"])
        .set("agent-data", &folder)
        .set("tmds-url", tmds.http.url())
        .start()?;
    for (task, ecs) in tasks.iter().zip(&all) {
        let mac = task.inside.mac().to_string();
        daemon.wait_report("the endpoint has told of each task", |report| {
            report.field(&mac, "ecs-service-name") == (ecs.service.as_deref().unwrap_or(""), "tmds")
        })?;
    }
    let asked = tmds.http.asked();
    assert_eq!(asked.len(), 4 + all.len(), "one answer for each task, and what was refused");
    let gaps = asked.windows(2).map(|pair| pair[1].at - pair[0].at);
    assert!(gaps.min().is_some_and(|gap| gap >= Duration::from_millis(150)), "they come slowly");
    // Without a change, there are no further queries.
    daemon.wait_windows(0)?;
    thread::sleep(Duration::from_secs(2));
    assert_eq!(tmds.http.asked().len(), asked.len());
    daemon.stop()?;
    Ok(())
}

#[test]
fn an_agent_that_restarts_leaves_what_it_said() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x140);
    let shared = Shared::new(vec![ecs.clone()]);
    let introspection = fake_agent::introspection(&shared)?;
    let daemon =
        asking(&lab, "introspection", "introspection-url", &introspection.url()).start()?;
    wait_label(&daemon, &task, "task_id", &ecs.id)?;
    drop(introspection);
    // A new interface causes an immediate query.
    let other = lab.late_task("other")?;
    daemon.wait("it is down", |page| up(page, "introspection") == Some(0.0))?;
    wait_label(&daemon, &task, "task_id", &ecs.id)?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside, &other.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    for record in books.records.of(task.inside.mac()) {
        assert_eq!(record.text("ecs_task_arn"), ecs.arn_of_task());
    }
    Ok(())
}

#[test]
fn secrets_beside_what_is_read_are_nowhere() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x180);
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [&ecs])?;
    let setup = lab
        .daemon()
        .sources(&["netns", "agent"])
        .set("agent-data", &folder)
        .set("log-level", "trace");
    let daemon = setup.start()?;
    wait_label(&daemon, &task, "interface_id", &ecs.eni)?;
    let report = daemon.get("/api/v1/tasks")?.body;
    let page = daemon.metrics()?.text;
    // A file that cannot be parsed is not printed either.
    std::fs::write(folder.join("agent.db"), "s3cret".repeat(10_000))?;
    daemon.wait("it is down", |page| up(page, "agent") == Some(0.0))?;
    let down = daemon.get("/api/v1/tasks")?.body;
    let stopped = daemon.stop()?;
    for (what, text) in
        [("report", &report), ("later report", &down), ("page", &page), ("log", &stopped.said)]
    {
        assert!(!text.contains("s3cret"), "{what}:\n{text}");
    }
    Ok(())
}
