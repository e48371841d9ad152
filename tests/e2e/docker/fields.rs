//! The ten `ecs-*` fields of VPC Flow Logs.

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    books::Books,
    docker,
    ecs_host::EcsHost,
    fake_agent::{self, Shared},
    fake_ecs::FakeTask,
    lab, need,
    records::{Record, Status},
    veth::Mac,
};

use super::{UDP, by_docker, names::assert_names};

/// Asserts the ten `ecs-*` fields of a record.
fn assert_fields(record: &Record, ecs: &FakeTask) {
    assert_names(record, ecs);
    let container = |number: usize| ecs.containers.get(number).map(String::as_str);
    for (key, expected) in [
        ("ecs_container_instance_arn", Some(ecs.instance_arn()).as_deref()),
        ("ecs_container_instance_id", Some(ecs.instance_id()).as_deref()),
        ("ecs_container_id", container(0)),
        ("ecs_second_container_id", container(1)),
        ("ecs_service_name", ecs.service.as_deref()),
    ] {
        assert_eq!(
            record.fields.get(key).and_then(|it| it.as_str()),
            expected,
            "{key} of {}",
            ecs.id
        );
    }
}

#[test]
fn all_ten_ecs_fields_are_right_without_any_aws_call() -> Result<()> {
    let lab = lab!();
    need!(docker::required());
    let host = EcsHost::start(&lab)?;
    let tasks = Shared::new(Vec::new());
    let (introspection, tmds) = (fake_agent::introspection(&tasks)?, fake_agent::tmds(&tasks)?);
    let daemon = by_docker(&lab, &host.docker.socket())
        .sources(&["docker", "introspection", "tmds"])
        .set("introspection-url", introspection.url())
        .set("tmds-url", tmds.http.url())
        .start()?;
    let mut running = Vec::new();
    for (number, service, containers) in
        [(1_u32, Some("web"), 1), (2, Some("web"), 2), (3, Some("api"), 5), (4, None, 1)]
    {
        let mac = Mac::fresh();
        let mut ecs = EcsHost::ecs(mac, service.unwrap_or("batch"), number);
        ecs.service = service.map(String::from);
        ecs.containers.clear();
        // The agent knows a task before it starts its containers, and their IDs once they are
        // created.
        tasks.lock().push(ecs.clone());
        let (task, eni) = host.awsvpc(ecs, mac, containers)?;
        *tasks.lock().last_mut().context("the task")? = task.ecs.clone();
        running.push((mac, task, eni));
    }
    for (_, task, eni) in &running {
        daemon.wait(&format!("all is known of {}", task.ecs.id), |page| {
            page.info(&eni.inside).is_some_and(|info| {
                info.label("task_id") == task.ecs.id && info.label("vpc_id") == fake_agent::VPC
            })
        })?;
    }
    // Each endpoint is queried at most once for each change of its containers.
    let asked = tmds.http.asked().len();
    ensure!((4..=9).contains(&asked), "{asked} requests to the task metadata endpoint");
    // The container instance may come with a later response of the introspection endpoint.
    daemon.wait("the introspection endpoint is asked again", |page| {
        page.sum(
            "observer_source_requests_total",
            &[("source", "introspection"), ("outcome", "answered")],
        ) >= 2
    })?;
    for (_, _, eni) in &running {
        UDP.send(&eni.inside, &eni.outside)?;
    }
    let books = Books::close(daemon, running.iter().map(|(_, _, eni)| &eni.inside))?;
    for (mac, task, _) in &running {
        let records = books.records.with_status(*mac, Status::Ok);
        assert!(!records.is_empty());
        for record in records {
            assert_fields(record, &task.ecs);
        }
    }
    Ok(())
}
