//! Tasks in host mode, which share the host's interface: the kernel reports the sending control
//! group.

use std::process::{self, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    books::Books,
    fake_agent,
    fake_ecs::{self, FakeTask},
    foreign::Group,
    lab,
    lab::Lab,
    need,
    records::Record,
    requires,
    tally::{Crossed, Tally},
    traffic::Udp,
    veth::{Addresses, Family, Interface, Task, quiet},
};

/// A task in host mode with one container, and its control group below the runtime's.
fn task_of_host(lab: &Lab, host: &Interface, number: u32) -> Result<(FakeTask, [Group; 2])> {
    let mut ecs = FakeTask::new(host, &format!("service-{number}"), number);
    ecs.mode = "host".into();
    ecs.containers = vec![format!("{:032x}{number:032x}", process::id())];
    let outer = format!("docker-{}.scope", ecs.containers[0]);
    let groups = [Group::new(lab, &outer)?, Group::new(lab, &format!("{outer}/inner"))?];
    Ok((ecs, groups))
}

/// Makes a process of the group send datagrams and receive replies.
fn ping(group: &Group, from: &Interface, to: &Interface, family: Family) -> Result<Tally> {
    const COUNT: u64 = 4;
    let mut ping = Command::new("ping");
    ping.args([
        "-n",
        "-q",
        "-i",
        "0.01",
        "-c",
        &COUNT.to_string(),
        &to.address(family).to_string(),
    ]);
    from.namespace().place(&mut ping)?;
    group.place(&mut ping)?;
    ensure!(
        ping.stdout(Stdio::null()).status().context("starting ping")?.success(),
        "nobody answers"
    );
    Ok(Tally::of(COUNT, family.header() + 8 + 56))
}

/// Two tasks and the host itself send; the daemon has these additional settings.
fn share(lab: &Lab, [one, other]: [u32; 2], more: &[(&'static str, &str)]) -> Result<()> {
    need!(requires::program("ping"));
    let host = Task::join(
        lab.other_namespace("host")?,
        lab.other_namespace("world")?,
        Addresses::default(),
    )?;
    quiet(std::slice::from_ref(&host))?;
    let (inside, outside) = (&host.inside, &host.outside);
    let (one, [_outer, inner]) = task_of_host(lab, inside, one)?;
    let (other, [outer, _inner]) = task_of_host(lab, inside, other)?;
    // One end of a pair is the host's own interface, because a source names it as an ENI.
    let file = fake_ecs::write(&lab.path("tasks.json"), [&FakeTask::new(inside, "primary", 0x70)])?;
    let folder = lab.path("agent");
    fake_agent::write_state(&folder, [&one, &other])?;
    let daemon =
        lab.daemon().sources(&["host", "agent"]).tasks_file(&file).set("agent-data", &folder);
    let daemon = more.iter().fold(daemon, |daemon, (name, value)| daemon.set(name, value));
    let daemon = daemon.inside(inside.namespace()).start()?;
    daemon.wait_attached(inside)?;
    daemon.wait("the agent's state is read", |page| {
        page.get("observer_source_up", &[("source", "agent")]) == Some(1.0)
    })?;

    let of_one = ping(&inner, inside, outside, Family::V4)?;
    let of_other = ping(&outer, inside, outside, Family::V6)?;
    let of_nobody =
        Udp { family: Family::V4, flows: 2, packets: 5, payload: 56 }.send(inside, outside)?;
    let books = Books::close(daemon, [inside])?;
    let each_way = of_one + of_other;
    books.assert_exact(inside, Crossed { ingress: each_way, egress: each_way + of_nobody });
    let of_task = |task: &str| -> Vec<&Record> {
        books.records.of(inside.mac()).filter(|record| record.text("ecs_task_id") == task).collect()
    };
    let sum = |task: &str| -> Tally { of_task(task).into_iter().map(|record| record.tally).sum() };
    for (ecs, sent) in [(&one, of_one), (&other, of_other)] {
        assert_eq!(sum(&ecs.id), sent + sent, "{}, both ways", ecs.id);
        for record in of_task(&ecs.id) {
            assert_eq!(Some(record.text("ecs_service_name")), ecs.service.as_deref());
            assert_eq!(record.text("ecs_task_arn"), ecs.arn_of_task());
            assert_eq!(record.text("ecs_container_id"), ecs.containers[0]);
            assert_eq!(record.text("ecs_container_instance_arn"), ecs.instance_arn());
            assert_eq!(record.text("network_mode"), "host");
        }
    }
    assert_eq!(sum(""), of_nobody, "what no task sent");
    Ok(())
}

#[test]
fn flows_on_the_hosts_interface_are_of_the_task_whose_socket_sends() -> Result<()> {
    let lab = lab!();
    share(&lab, [0x71, 0x72], &[])
}

#[test]
fn so_they_are_where_xdp_counts_what_comes_in() -> Result<()> {
    let lab = lab!();
    share(
        &lab,
        [0x73, 0x74],
        &[("hook", "xdp"), ("xdp-mode", "generic"), ("xdp-changes", "accept")],
    )
}
