//! Tasks in a real Docker Engine, started and labelled like the ECS agent's, in every network mode.

mod fields;
mod names;
mod proxy;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    daemon::Setup,
    docker,
    ecs_host::EcsHost,
    fake_agent::{self, Shared},
    fake_ecs::FakeTask,
    lab,
    lab::Lab,
    need,
    records::{Records, Status},
    tally::Crossed,
    traffic::Udp,
    veth::{Addresses, Family, Mac, Task, ip_batch},
};

pub(crate) use self::names::assert_names;
use self::{names::wait_named, proxy::Proxy};

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 20, payload: 64 };

/// A daemon whose only metadata source is Docker.
fn by_docker<'lab>(lab: &'lab Lab, socket: &Path) -> Setup<'lab> {
    lab.daemon().sources(&["docker"]).set("docker-socket", socket)
}

#[test]
fn docker_alone_ties_a_task_to_its_eni() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let daemon = by_docker(&lab, &host.docker.socket()).start()?;
    let mac = Mac::fresh();
    let (running, task) = host.awsvpc(EcsHost::ecs(mac, "web", 0x11), mac, 2)?;
    wait_named(&daemon, &task, &running.ecs)?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    for record in books.records.with_status(mac, Status::Ok) {
        assert_names(record, &running.ecs);
        assert_eq!(record.text("interface_id"), task.inside.id(), "nobody knows the ENI");
        assert_eq!(record.text("ecs_container_id"), running.containers[0].id);
        assert_eq!(record.text("ecs_second_container_id"), running.containers[1].id);
        assert!(!record.fields.contains_key("ecs_service_name"), "Docker knows no services");
    }
    Ok(())
}

#[test]
fn a_bridge_gives_each_container_its_own_records() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let instance = Shared::new(fake_agent::Instance::new([(
        Mac::fresh(),
        "eni-0123456789abcdef0".to_owned(),
    )]));
    let imds = fake_agent::imds(&instance)?;
    let daemon = by_docker(&lab, &host.docker.socket())
        .sources(&["docker", "imds"])
        .set("imds-url", imds.url())
        .start()?;
    let mac = Mac::fresh();
    let running = host.bridge(EcsHost::ecs(mac, "web", 0x21), 2)?;
    let spaces = [host.namespace(&running.containers[0])?, host.namespace(&running.containers[1])?];
    daemon.wait("both containers are named", |page| {
        let named = |inode: u64| {
            let labels =
                [("netns", inode.to_string()), ("interface_id", "eni-0123456789abcdef0".into())];
            page.all("observer_interface_info", &[]).any(|info| {
                labels.iter().all(|(name, value)| info.label(name) == value)
                    && info.label("task_id") == running.ecs.id
            })
        };
        spaces.iter().all(|space| named(space.inode()))
    })?;
    spaces[0].output("ping", &["-c", "3", "-i", "0.01", "10.77.0.3"])?;
    let records = Records::read(&daemon.stop()?.out)?;
    for (number, space) in spaces.iter().enumerate() {
        let flows: Vec<_> = records
            .all
            .iter()
            .filter(|it| it.number("netns") == Some(space.inode()) && it.status == Status::Ok)
            .collect();
        assert!(!flows.is_empty(), "no flow of container {number}");
        for record in flows {
            assert_names(record, &running.ecs);
            assert_eq!(record.text("ecs_container_id"), running.containers[number].id);
            assert_eq!(record.text("container_name"), FakeTask::container_name(number));
            assert!(!record.fields.contains_key("ecs_second_container_id"));
            assert_eq!(record.text("interface_id"), "eni-0123456789abcdef0");
            assert_eq!(record.text("instance_id"), fake_agent::INSTANCE);
            assert!(record.text("pkt_srcaddr").starts_with("10.77.0."));
        }
    }
    Ok(())
}

#[test]
fn a_host_with_a_task_is_named_by_the_instance_and_attached_once() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let world = lab.other_namespace("world")?;
    let addresses = Addresses { ipv6: false, ..Addresses::default() };
    let mac = Mac::fresh();
    let running = host.without_namespace(EcsHost::ecs(mac, "agentless", 0x31), "host")?;
    let eni = Task::attach(host.namespace(&running.containers[0])?, world, mac, addresses)?;
    let file = observer_tests::fake_ecs::write(
        &lab.path("tasks.json"),
        [&EcsHost::ecs(mac, "primary", 0x32)],
    )?;
    let daemon = by_docker(&lab, &host.docker.socket())
        .sources(&["docker", "host"])
        .tasks_file(&file)
        .inside(&host.host)
        .start()?;
    daemon.wait_attached(&eni.inside)?;
    let sent = UDP.send(&eni.inside, &eni.outside)?;
    daemon.wait_report("the task is listed", |report| {
        report.task(&running.ecs.id).is_some_and(|task| task["state"] == "host")
    })?;
    let records = Records::read(&daemon.stop()?.out)?;
    assert_eq!(records.recorded(mac).egress, sent);
    for record in records.with_status(mac, Status::Ok) {
        assert_eq!(record.text("network_mode"), "host");
        assert_eq!(record.text("ecs_task_arn"), "", "one of several that share the interface");
    }
    Ok(())
}

#[test]
fn a_task_without_a_network_is_listed_and_nothing_is_attached() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let running = host.without_namespace(EcsHost::ecs(Mac::fresh(), "batch", 0x41), "none")?;
    let daemon = by_docker(&lab, &host.docker.socket()).start()?;
    daemon.wait_report("the task is listed", |report| {
        report.task(&running.ecs.id).is_some_and(|task| {
            task["state"] == "none" && task["interfaces"].as_array().is_some_and(Vec::is_empty)
        })
    })?;
    assert_eq!(daemon.metrics()?.get("observer_interfaces", &[("state", "attached")]), Some(0.0));
    daemon.stop()?;
    Ok(())
}

#[test]
fn the_link_to_the_agent_is_left_out_and_counted_apart() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let mac = Mac::fresh();
    let (running, task) = host.awsvpc(EcsHost::ecs(mac, "web", 0x51), mac, 1)?;
    let inside = task.inside.namespace();
    ip_batch(
        inside,
        "link add ecs-eth0 type veth peer name ecs-peer\naddr add 169.254.172.2/22 dev ecs-eth0\nlink set ecs-eth0 up\n\
         link set ecs-peer down\n",
    )?;
    let peer = lab.other_namespace("agent-peer")?;
    ip_batch(inside, &format!("link set ecs-peer netns {}\n", peer.path().display()))?;
    let daemon = by_docker(&lab, &host.docker.socket()).start()?;
    wait_named(&daemon, &task, &running.ecs)?;
    let page = daemon.wait("the agent's link is counted", |page| {
        page.get("observer_interfaces", &[("state", "agent_link")]) == Some(1.0)
    })?;
    assert_eq!(
        page.all("observer_interface_info", &[]).count(),
        1,
        "{}",
        page.shown("observer_interface_info")
    );
    daemon.stop()?;
    Ok(())
}

#[test]
fn docker_events_that_are_cut_off_cost_no_name() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let proxy = Proxy::start(&lab, host.docker.socket())?;
    let daemon = by_docker(&lab, &proxy.socket).start()?;
    let mut named = Vec::new();
    for number in 0..4 {
        let mac = Mac::fresh();
        let ecs = EcsHost::ecs(mac, &format!("service-{number}"), 0x60 + number);
        proxy.cut();
        let (running, task) = host.awsvpc(ecs, mac, 1)?;
        wait_named(&daemon, &task, &running.ecs)?;
        let sent = UDP.send(&task.inside, &task.outside)?;
        named.push((mac, running, task, sent));
    }
    let books = Books::close(daemon, named.iter().map(|(_, _, task, _)| &task.inside))?;
    for (mac, running, task, sent) in &named {
        books.assert_exact(&task.inside, Crossed::egress(*sent));
        for record in books.records.of(*mac) {
            assert_names(record, &running.ecs);
        }
    }
    Ok(())
}

#[test]
fn an_engine_that_is_killed_and_comes_back_changes_nothing() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let mut host = EcsHost::start(&lab)?;
    let daemon = by_docker(&lab, &host.docker.socket()).start()?;
    let mac = Mac::fresh();
    let (running, task) = host.awsvpc(EcsHost::ecs(mac, "web", 0x71), mac, 1)?;
    wait_named(&daemon, &task, &running.ecs)?;
    let mut sent = UDP.send(&task.inside, &task.outside)?;
    host.docker.kill_engine();
    daemon.wait("the daemon sees that Docker is gone", |page| {
        page.get("observer_source_up", &[("source", "docker")]) == Some(0.0)
    })?;
    sent += UDP.send(&task.inside, &task.outside)?;
    host.docker.start_engine()?;
    daemon.wait("the daemon sees that Docker is back", |page| {
        page.get("observer_source_up", &[("source", "docker")]) == Some(1.0)
    })?;
    sent += UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    for record in books.records.of(mac) {
        assert_names(record, &running.ecs);
    }
    Ok(())
}

#[test]
fn a_pause_container_that_crashes_leaves_the_name() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let daemon = by_docker(&lab, &host.docker.socket()).start()?;
    let mac = Mac::fresh();
    let (running, task) = host.awsvpc(EcsHost::ecs(mac, "web", 0x81), mac, 1)?;
    wait_named(&daemon, &task, &running.ecs)?;
    host.kill_pause(&running)?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    // A daemon that starts now finds the namespace by the remaining container.
    let second = by_docker(&lab, &host.docker.socket()).name("second").start()?;
    wait_named(&second, &task, &running.ecs)?;
    second.stop()?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    for record in books.records.of(mac) {
        assert_names(record, &running.ecs);
    }
    Ok(())
}

#[test]
fn a_mac_and_an_address_that_are_reused_at_once_are_the_new_tasks() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let mac = Mac::fresh();
    let tasks = Shared::new(Vec::new());
    let introspection = fake_agent::introspection(&tasks)?;
    let state = lab.path("agent");
    let mut old = EcsHost::ecs(mac, "old", 0x91);
    let mut new = EcsHost::ecs(mac, "new", 0x92);
    fake_agent::write_state(&state, [&old])?;
    tasks.lock().push(old.clone());
    let daemon = by_docker(&lab, &host.docker.socket())
        .window(1)
        .sources(&["docker", "agent", "introspection"])
        .set("agent-data", &state)
        .set("introspection-url", introspection.url())
        .start()?;
    let (first, task) = host.awsvpc(old.clone(), mac, 1)?;
    wait_named(&daemon, &task, &first.ecs)?;
    UDP.send(&task.inside, &task.outside)?;
    drop(task.end());
    host.stop(&first)?;
    let switched_ms = jiff::Timestamp::now().as_millisecond();
    // The agent does not know yet: its state and its endpoint still describe the old task.
    let (second, task) = host.awsvpc(new.clone(), mac, 1)?;
    wait_named(&daemon, &task, &second.ecs)?;
    UDP.send(&task.inside, &task.outside)?;
    daemon.wait("the conflict is counted", |page| {
        page.sum(
            "observer_identity_conflicts_total",
            &[("source", "agent"), ("field", "ecs-task-id")],
        ) > 0
    })?;
    daemon.wait_windows(2)?;
    // Now the agent learns of it.
    old.status = "STOPPED".into();
    new.containers.clone_from(&second.ecs.containers);
    fake_agent::write_state(&state, [&old, &new])?;
    *tasks.lock() = vec![old.clone(), new.clone()];
    daemon.wait("the new ENI is known", |page| {
        page.info(&task.inside).is_some_and(|info| info.label("interface_id") == new.eni)
    })?;
    UDP.send(&task.inside, &task.outside)?;
    let records = Records::read(&daemon.stop()?.out)?;
    let mut enis = BTreeSet::new();
    for record in records.with_status(mac, Status::Ok) {
        if record.number("start_ms").context("start_ms")? as i64 >= switched_ms {
            assert_names(record, &new);
            enis.insert(record.text("interface_id").to_owned());
        } else {
            assert_names(record, &old);
            assert_eq!(record.text("interface_id"), old.eni);
        }
    }
    assert!(enis.contains(&new.eni) && !enis.contains(&old.eni), "{enis:?}");
    Ok(())
}
