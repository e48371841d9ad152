//! One source alone, none, and several that disagree.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    fake_agent::{self, Instance, Shared},
    fake_ecs::{self, FakeTask},
    lab,
    metrics::Metrics,
    records::Status,
    tally::Crossed,
    traffic::Udp,
    veth::{Addresses, Family},
};

use super::{UDP, asking, assert_recorded, up, wait_label};

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
