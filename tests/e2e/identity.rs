//! Identity of an interface from each source alone, from several that disagree, and from none; and
//! sources that fail.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    daemon::{Daemon, Setup},
    fake_agent::{self, Instance, Mood, Shared},
    fake_ecs::{self, FakeTask},
    fake_http::FakeHttp,
    lab,
    lab::Lab,
    metrics::Metrics,
    poll,
    records::{Records, Status},
    tally::Crossed,
    traffic::Udp,
    veth::{Addresses, Family, Task},
};

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 20, payload: 64 };

fn up(page: &Metrics, source: &str) -> Option<f64> {
    page.get("observer_source_up", &[("source", source)])
}

/// Waits until a label of the interface's info metric has this value.
fn wait_label(daemon: &Daemon<'_>, task: &Task, label: &str, value: &str) -> Result<Metrics> {
    daemon.wait(&format!("{label} is {value}"), |page| {
        page.info(&task.inside).is_some_and(|info| info.label(label) == value)
    })
}

/// A daemon with the source `netns` and one source that queries an endpoint.
fn asking<'lab>(
    lab: &'lab Lab,
    source: &'static str,
    endpoint: &'static str,
    at: &str,
) -> Setup<'lab> {
    lab.daemon().sources(&["netns", source]).set(endpoint, at)
}

/// Sends traffic, closes the books, and returns the fields that all flow records must have.
fn assert_recorded(daemon: Daemon<'_>, task: &Task, fields: &[(&str, &str)]) -> Result<()> {
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    let records = books.records.with_status(task.inside.mac(), Status::Ok);
    assert!(!records.is_empty());
    for record in records {
        for (key, expected) in fields {
            assert_eq!(record.text(key), *expected, "{key}");
        }
    }
    Ok(())
}

#[test]
fn no_source_answers_and_all_goes_on() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let nowhere = format!("http://{}", observer_tests::daemon::free_address()?);
    let daemon = lab
        .daemon()
        .sources(&["netns", "docker", "agent", "introspection", "tmds", "imds"])
        .set("docker-socket", lab.path("no-socket"))
        .set("agent-data", lab.path("no-folder"))
        .set("introspection-url", &nowhere)
        .set("tmds-url", &nowhere)
        .set("imds-url", &nowhere)
        .start()?;
    let page = daemon.wait("each source is known to be down", |page| {
        ["docker", "agent", "introspection", "imds"]
            .iter()
            .all(|source| up(page, source) == Some(0.0))
    })?;
    assert_eq!(up(&page, "tmds"), None, "nobody is to be asked about");
    let id = task.inside.id();
    assert_recorded(daemon, &task, &[("interface_id", &id), ("ecs_task_arn", ""), ("region", "")])
}

#[test]
fn the_agents_state_alone_tells_task_and_eni() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x101);
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [&ecs])?;
    let daemon = lab.daemon().sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
    wait_label(&daemon, &task, "interface_id", &ecs.eni)?;
    assert_recorded(
        daemon,
        &task,
        &[
            ("interface_id", &ecs.eni),
            ("ecs_task_arn", &ecs.arn_of_task()),
            ("ecs_service_name", "web"),
            ("ecs_cluster_arn", &ecs.cluster_arn()),
            ("ecs_container_instance_arn", &ecs.instance_arn()),
            ("ecs_task_definition_arn", &ecs.definition_arn()),
            ("ecs_container_id", &ecs.containers[0]),
            ("ecs_second_container_id", &ecs.containers[1]),
            ("instance_id", fake_agent::INSTANCE),
            ("network_mode", "awsvpc"),
        ],
    )
}

#[test]
fn introspection_alone_tells_the_task_by_its_address() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x102);
    let introspection = fake_agent::introspection(&Shared::new(vec![ecs.clone()]))?;
    let daemon =
        asking(&lab, "introspection", "introspection-url", &introspection.url()).start()?;
    wait_label(&daemon, &task, "task_id", &ecs.id)?;
    let id = task.inside.id();
    assert_recorded(
        daemon,
        &task,
        &[
            ("interface_id", &id),
            ("ecs_task_arn", &ecs.arn_of_task()),
            ("ecs_container_instance_id", &ecs.instance_id()),
            ("ecs_task_definition_arn", &ecs.definition_arn()),
            ("ecs_container_id", &ecs.containers[0]),
            ("ecs_service_name", ""),
            ("network_mode", "awsvpc"),
        ],
    )
}

#[test]
fn an_address_that_two_tasks_are_said_to_have_names_neither() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let twins = [0x103, 0x104].map(|number| FakeTask::new(&task.inside, "web", number));
    let introspection = fake_agent::introspection(&Shared::new(twins.to_vec()))?;
    let daemon =
        asking(&lab, "introspection", "introspection-url", &introspection.url()).start()?;
    daemon.wait("it is asked twice", |page| {
        page.sum(
            "observer_source_requests_total",
            &[("source", "introspection"), ("outcome", "answered")],
        ) >= 2
    })?;
    let id = task.inside.id();
    assert_recorded(daemon, &task, &[("interface_id", &id), ("ecs_task_arn", "")])
}

#[test]
fn instance_metadata_alone_tells_the_eni() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let eni = "eni-00000000000000106";
    let imds =
        fake_agent::imds(&Shared::new(Instance::new([(task.inside.mac(), eni.to_owned())])))?;
    let daemon = asking(&lab, "imds", "imds-url", &imds.url()).start()?;
    wait_label(&daemon, &task, "interface_id", eni)?;
    assert_recorded(
        daemon,
        &task,
        &[
            ("interface_id", eni),
            ("account_id", "123456789012"),
            ("region", "eu-west-1"),
            ("vpc_id", fake_agent::VPC),
            ("subnet_id", fake_agent::SUBNET),
            ("instance_id", fake_agent::INSTANCE),
            ("az_id", fake_agent::AZ),
            ("ecs_task_arn", ""),
        ],
    )
}

#[test]
fn a_namespaces_name_alone_tells_task_and_eni() -> Result<()> {
    let lab = lab!();
    let id = format!("{:032x}", 0x107);
    let task = lab.task(&format!("{id}-eni-00000000000000107"))?;
    let daemon = lab.daemon().start()?;
    assert_recorded(
        daemon,
        &task,
        &[
            ("interface_id", "eni-00000000000000107"),
            ("ecs_task_id", &id),
            ("network_mode", "awsvpc"),
        ],
    )
}

#[test]
fn sources_that_disagree_are_weighed_and_the_lighter_one_is_counted() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x108);
    let mut other = ecs.clone();
    other.eni = "eni-000000000000000ff".into();
    other.service = Some("other".into());
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [&ecs])?;
    let file = fake_ecs::write(&lab.path("tasks.json"), [&other])?;
    let imds = fake_agent::imds(&Shared::new(Instance::new([(
        task.inside.mac(),
        "eni-000000000000000ee".into(),
    )])))?;
    let daemon = lab
        .daemon()
        .sources(&["netns", "agent", "imds"])
        .tasks_file(&file)
        .set("agent-data", &folder)
        .set("imds-url", imds.url())
        .start()?;
    let conflict = |page: &Metrics, source, field| {
        page.sum("observer_identity_conflicts_total", &[("source", source), ("field", field)])
    };
    daemon.wait("both are refused", |page| {
        conflict(page, "imds", "interface-id") == 1
            && conflict(page, "file", "interface-id") == 1
            && conflict(page, "file", "ecs-service-name") == 1
            && conflict(page, "agent", "interface-id") == 0
    })?;
    let report = daemon.report()?;
    let mac = task.inside.mac().to_string();
    assert_eq!(report.field(&mac, "interface-id"), (ecs.eni.as_str(), "agent"));
    assert_eq!(report.field(&mac, "subnet-id"), (fake_agent::SUBNET, "imds"));
    let interface = report.interface(&mac).context("the interface")?;
    assert!(interface["conflicts"].to_string().contains("eni-000000000000000ff"), "{interface}");
    assert_recorded(daemon, &task, &[("interface_id", &ecs.eni), ("ecs_service_name", "web")])
}

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

/// A task, an instance with its ENI, and a daemon whose only metadata source is IMDS.
fn with_imds(lab: &Lab, mood: Mood) -> Result<(Task, Shared<Instance>, FakeHttp, Setup<'_>)> {
    let task = lab.task("task")?;
    let mut instance = Instance::new([(task.inside.mac(), "eni-00000000000000120".to_owned())]);
    instance.mood = mood;
    let instance = Shared::new(instance);
    let imds = fake_agent::imds(&instance)?;
    let daemon = asking(lab, "imds", "imds-url", &imds.url());
    Ok((task, instance, imds, daemon))
}

#[test]
fn instance_metadata_that_forgets_its_tokens_is_asked_with_new_ones() -> Result<()> {
    let lab = lab!();
    let (task, _instance, imds, daemon) = with_imds(&lab, Mood::Forgetful(3))?;
    let daemon = daemon.start()?;
    wait_label(&daemon, &task, "interface_id", "eni-00000000000000120")?;
    let tokens = imds.asked().iter().filter(|request| request.path.ends_with("/api/token")).count();
    assert!(tokens > 1, "{tokens} tokens");
    assert_recorded(daemon, &task, &[("interface_id", "eni-00000000000000120")])
}

#[test]
fn instance_metadata_that_fails_is_asked_again_later_and_later() -> Result<()> {
    for status in [401, 403, 500] {
        let lab = lab!();
        let (task, instance, imds, daemon) = with_imds(&lab, Mood::Status(status))?;
        let daemon = daemon.start()?;
        daemon.wait("it is down", |page| up(page, "imds") == Some(0.0))?;
        let sent = UDP.send(&task.inside, &task.outside)?;
        let failed = |page: &Metrics| {
            page.sum("observer_source_requests_total", &[("source", "imds"), ("outcome", "failed")])
        };
        daemon.wait("it has failed thrice", |page| failed(page) >= 3)?;
        assert!(imds.asked().len() < 30, "{} requests", imds.asked().len());
        instance.lock().mood = Mood::Fine;
        wait_label(&daemon, &task, "interface_id", "eni-00000000000000120")?;
        let books = Books::close(daemon, [&task.inside])?;
        books.assert_exact(&task.inside, Crossed::egress(sent));
    }
    Ok(())
}

#[test]
fn an_eni_that_instance_metadata_lists_late_is_found() -> Result<()> {
    let lab = lab!();
    let (task, instance, _imds, daemon) = with_imds(&lab, Mood::Fine)?;
    let eni = std::mem::take(&mut instance.lock().enis);
    let daemon = daemon.start()?;
    daemon.wait("it is asked, and lists nothing", |page| {
        page.sum("observer_source_requests_total", &[("source", "imds"), ("outcome", "answered")])
            >= 3
    })?;
    assert_eq!(up(&daemon.metrics()?, "imds"), Some(1.0));
    instance.lock().enis = eni;
    wait_label(&daemon, &task, "interface_id", "eni-00000000000000120")?;
    assert_recorded(daemon, &task, &[("interface_id", "eni-00000000000000120")])
}

#[test]
fn instance_metadata_that_never_answers_stops_nobody() -> Result<()> {
    let lab = lab!();
    let (task, instance, _imds, daemon) = with_imds(&lab, Mood::Silent)?;
    let daemon = daemon.window(1).start()?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    daemon.wait_windows(3)?;
    daemon.wait("it is down", |page| up(page, "imds") == Some(0.0))?;
    instance.lock().mood = Mood::Fine;
    wait_label(&daemon, &task, "interface_id", "eni-00000000000000120")?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
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
fn eni_addresses_of_both_families_are_one_task() -> Result<()> {
    for ipv6 in [true, false] {
        let lab = lab!();
        let task = lab.task_with("task", Addresses { ipv6, ..Addresses::default() })?;
        let ecs = FakeTask::new(&task.inside, "web", 0x170);
        let folder = lab.path("agent");
        fake_agent::write_state(&folder, [&ecs])?;
        let daemon =
            lab.daemon().sources(&["netns", "agent"]).set("agent-data", &folder).start()?;
        wait_label(&daemon, &task, "interface_id", &ecs.eni)?;
        let mut sent = UDP.send(&task.inside, &task.outside)?;
        if ipv6 {
            sent += Udp { family: Family::V6, ..UDP }.send(&task.inside, &task.outside)?;
        }
        let books = Books::close(daemon, [&task.inside])?;
        books.assert_exact(&task.inside, Crossed::egress(sent));
        let records = books.records.with_status(task.inside.mac(), Status::Ok);
        let types: BTreeSet<&str> = records.iter().map(|record| record.text("type")).collect();
        assert_eq!(types.len(), if ipv6 { 2 } else { 1 });
        assert!(records.iter().all(|record| record.text("interface_id") == ecs.eni));
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
