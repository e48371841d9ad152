//! The Amazon ECS API as a source, played by moto.

use std::time::Duration;

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    daemon::{Setup, free_address},
    fake_agent::{self, Shared},
    fake_ecs::FakeTask,
    fake_http::FakeHttp,
    lab,
    lab::Lab,
    moto::{self, Moto, MotoTask},
    need,
    records::Status,
    tally::Crossed,
    traffic::Udp,
    veth::{Addresses, Family, Task, quiet},
};

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 20, payload: 64 };

/// A task that the API knows, on this host; the agent's endpoint tells that it is here.
fn here(lab: &Lab, known: &MotoTask) -> Result<(Task, FakeHttp)> {
    let (inside, outside) = (lab.observed_namespace("task")?, lab.other_namespace("task")?);
    let addresses = Addresses { ipv6: false, ..Addresses::default() };
    let task = Task::attach(inside, outside, known.mac, addresses)?;
    quiet(std::slice::from_ref(&task))?;
    let mut ecs = FakeTask::new(&task.inside, "unused", 0x301);
    known.arn.rsplit('/').next().context("an id")?.clone_into(&mut ecs.id);
    known.arn.split(':').nth(4).context("an account")?.clone_into(&mut ecs.account);
    let introspection = fake_agent::introspection(&Shared::new(vec![ecs]))?;
    Ok((task, introspection))
}

fn asking<'lab>(lab: &'lab Lab, introspection: &FakeHttp, api: &str) -> Setup<'lab> {
    lab.daemon()
        .sources(&["netns", "introspection", "api"])
        .set("introspection-url", introspection.url())
        .set("api-url", api)
}

#[test]
fn the_api_tells_eni_and_service() -> Result<()> {
    let lab = lab!();
    need!(moto::required());
    let moto = Moto::start(&lab)?;
    let known = moto.run_task("web")?;
    let (task, introspection) = here(&lab, &known)?;
    let mut setup = asking(&lab, &introspection, &moto.url());
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ] {
        setup = setup.env(name, value);
    }
    let before = moto.asked(&lab)?;
    let daemon = setup.start()?;
    daemon.wait("the ENI is known", |page| {
        page.info(&task.inside).is_some_and(|info| info.label("interface_id") == known.eni)
    })?;
    let mac = task.inside.mac().to_string();
    let report = daemon.wait_report("the instance is known", |report| {
        report.field(&mac, "instance-id") == (moto.instance.as_str(), "api")
    })?;
    assert_eq!(report.field(&mac, "interface-id"), (known.eni.as_str(), "api"));
    assert_eq!(report.field(&mac, "subnet-id"), (known.subnet.as_str(), "api"));
    assert_eq!(report.field(&mac, "ecs-service-name"), ("web", "api"));
    // Nothing changes, so nothing is asked again.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(moto.asked(&lab)? - before, 2, "one request about the task, one about the instance");
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    for record in books.records.with_status(task.inside.mac(), Status::Ok) {
        assert_eq!(record.text("interface_id"), known.eni);
        assert_eq!(record.text("ecs_task_arn"), known.arn);
    }
    Ok(())
}

#[test]
fn without_credentials_nobody_is_asked() -> Result<()> {
    let lab = lab!();
    need!(moto::required());
    let moto = Moto::start(&lab)?;
    let known = moto.run_task("web")?;
    let (task, introspection) = here(&lab, &known)?;
    let before = moto.asked(&lab)?;
    let daemon = asking(&lab, &introspection, &moto.url())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", lab.path("home"))
        .start()?;
    let mac = task.inside.mac().to_string();
    let report = daemon.wait_report("it is down", |report| {
        report
            .source("api")
            .is_some_and(|api| api["detail"].as_str().is_some_and(|it| it.contains("credential")))
    })?;
    let missing = report.missing(&mac);
    assert!(
        missing.iter().any(|line| line.starts_with("no interface-id") && line.contains("ecs:DescribeTasks")),
        "{missing:?}"
    );
    assert_eq!(moto.asked(&lab)?, before);
    let sent = UDP.send(&task.inside, &task.outside)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    Ok(())
}

#[test]
fn an_api_that_cannot_be_reached_stops_nobody() -> Result<()> {
    let lab = lab!();
    need!(moto::required());
    let moto = Moto::start(&lab)?;
    let known = moto.run_task("web")?;
    let (task, introspection) = here(&lab, &known)?;
    drop(moto);
    let nowhere = format!("http://{}", free_address()?);
    let daemon = asking(&lab, &introspection, &nowhere)
        .window(1)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .start()?;
    let sent = UDP.send(&task.inside, &task.outside)?;
    daemon.wait("it is down", |page| page.get("observer_source_up", &[("source", "api")]) == Some(0.0))?;
    daemon.wait_windows(2)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    Ok(())
}
