//! Names of interfaces without a known ENI, and the selection of a host's interfaces.

use anyhow::Result;
use observer_tests::{
    books::Books,
    fake_ecs::{self, FakeTask},
    lab,
    records::Status,
    tally::Crossed,
    traffic::{Udp, ping},
    veth::{Addresses, Family},
};

#[test]
fn without_a_tasks_file_an_interface_is_its_name_and_mac() -> Result<()> {
    let lab = lab!();
    let task = lab.task_with("task", Addresses { name: "ens7", ..Addresses::default() })?;
    let daemon = lab.daemon().start()?;
    let sent = Udp { family: Family::V4, flows: 1, packets: 1, payload: 1 }
        .send(&task.outside, &task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    let mac = task.inside.mac();
    let records = books.records.with_status(mac, Status::Ok);
    let [record] = records[..] else { anyhow::bail!("{} records of one flow", records.len()) };
    assert_eq!(record.text("interface_id"), format!("ens7@{mac}"));
    assert_eq!(record.text("interface_name"), "ens7");
    for key in ["ecs_task_arn", "ecs_service_name", "vpc_id", "subnet_id", "region"] {
        assert_eq!(record.fields.get(key), None, "{key} that nobody knows");
    }
    for file in &books.records.files {
        let folder = "AWSLogs/000000000000/vpcflowlogs/local/";
        assert!(
            file.to_string_lossy().contains(folder),
            "{} is not below {folder}",
            file.display()
        );
    }
    Ok(())
}

#[test]
fn an_interface_that_the_tasks_file_does_not_name_keeps_its_own_name() -> Result<()> {
    let lab = lab!();
    let tasks = lab.tasks(["known", "unknown"].map(String::from))?;
    let [known, unknown] = &tasks[..] else { anyhow::bail!("two tasks") };
    let ecs = FakeTask::new(&known.inside, "web", 1);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemon = lab.daemon().tasks_file(&file).start()?;
    let books = Books::close(daemon, [&known.inside, &unknown.inside])?;
    for (task, id) in [(known, ecs.eni.clone()), (unknown, unknown.inside.id())] {
        let records: Vec<_> = books.records.of(task.inside.mac()).collect();
        assert!(!records.is_empty(), "no record of {id}");
        for record in records {
            assert_eq!(record.text("interface_id"), id);
        }
    }
    Ok(())
}

#[test]
fn a_tasks_file_that_learns_of_a_task_gives_later_records_its_eni() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let path = lab.path("tasks.json");
    let file = fake_ecs::write(&path, [])?;
    let daemon = lab.daemon().window(1).tasks_file(&file).start()?;
    let ecs = FakeTask::new(&task.inside, "web", 0xc3);
    fake_ecs::write(&path, [&ecs])?;
    daemon.wait("the ENI is known", |page| {
        page.info(&task.inside).is_some_and(|info| info.label("interface_id") == ecs.eni)
    })?;
    let sent = Udp { family: Family::V4, flows: 1, packets: 5, payload: 1 }
        .send(&task.outside, &task.inside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::ingress(sent));
    for record in books.records.with_status(task.inside.mac(), Status::Ok) {
        assert_eq!(record.text("interface_id"), ecs.eni);
        assert_eq!(record.text("ecs_service_name"), "web");
    }
    Ok(())
}

#[test]
fn a_host_observes_its_own_interface_that_a_source_knows() -> Result<()> {
    let lab = lab!();
    // Outside of the directory of namespaces: only in the daemon's own namespace, the "host".
    let task = observer_tests::veth::Task::join(
        lab.other_namespace("host")?,
        lab.other_namespace("world")?,
        Addresses::default(),
    )?;
    observer_tests::veth::quiet(std::slice::from_ref(&task))?;
    let host = &task.inside;
    let ecs = FakeTask::new(host, "web", 0xd4);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    let daemon =
        lab.daemon().sources(&["host"]).tasks_file(&file).inside(host.namespace()).start()?;
    let pings = ping(&task.outside, host, Family::V4, 5, 56)?;
    let sent =
        Udp { family: Family::V6, flows: 2, packets: 5, payload: 56 }.send(host, &task.outside)?;
    let sent = Crossed { ingress: pings.each_way, egress: pings.each_way } + Crossed::egress(sent);
    let books = Books::close(daemon, [host])?;
    books.assert_exact(host, sent);
    for record in books.records.of(host.mac()) {
        assert_eq!(record.text("interface_id"), ecs.eni);
        assert_eq!(record.number("netns"), Some(host.namespace().inode()));
    }
    Ok(())
}

#[test]
fn a_link_into_a_task_is_not_counted_a_second_time_on_the_host() -> Result<()> {
    let lab = lab!();
    // The task's other end is in the daemon's own namespace.
    let task = lab.task("task")?;
    let host = &task.outside;
    let daemon = lab.daemon().sources(&["netns", "host"]).inside(host.namespace()).start()?;
    let sent =
        Udp { family: Family::V4, flows: 5, packets: 20, payload: 56 }.send(&task.inside, host)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    assert_eq!(books.records.of(host.mac()).count(), 0, "records of the host's end");
    let all: u64 = books.records.all.iter().map(|record| record.tally.packets).sum();
    assert_eq!(all, sent.packets, "packets in all records");
    Ok(())
}
