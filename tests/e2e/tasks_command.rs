//! `observer tasks`: with and without a running daemon, as a table and as JSON.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    daemon::{command, free_address, run_to_end},
    fake_agent::{self, Instance, Shared},
    fake_ecs::{self, FakeTask},
    lab,
    lab::Lab,
    netns::Namespace,
    report::Report,
    veth::{Interface, Task},
};

fn run(command: &mut Command) -> Result<String> {
    let exit = run_to_end(command, Duration::from_secs(20))?;
    ensure!(
        exit.status.code() == Some(0),
        "{command:?} ended with {}:\n{}",
        exit.status,
        exit.stderr
    );
    Ok(exit.stdout)
}

/// Two tasks in the agent's state: one on this host, and its ENI has no ID.
fn half_known(lab: &Lab) -> Result<(Task, FakeTask, FakeTask)> {
    let task = lab.task("task")?;
    let mut here = FakeTask::new(&task.inside, "web", 0x201);
    here.eni.clear();
    let mut absent = here.clone();
    absent.id = format!("{:032x}", 0x202);
    absent.mode = "bridge".into();
    absent.containers = vec!["f".repeat(64)];
    fake_agent::write_state(&lab.path("agent"), [&here, &absent])?;
    Ok((task, here, absent))
}

fn mac(interface: &Interface) -> String {
    interface.mac().to_string()
}

#[test]
fn without_a_daemon_the_sources_are_asked() -> Result<()> {
    let lab = lab!();
    let (task, here, absent) = half_known(&lab)?;
    let imds = fake_agent::imds(&Shared::new(Instance::new([])))?;
    let listen = free_address()?.to_string();
    let ask = |json: &[&str]| -> Result<String> {
        let mut command = command()?;
        command.args([
            "tasks", "--source", "netns", "--source", "agent", "--source", "imds", "--listen",
            &listen,
        ]);
        command.arg("--netns-dir").arg(lab.netns_dir()).arg("--agent-data").arg(lab.path("agent"));
        command.args(["--imds-url", &imds.url()]).args(json);
        run(&mut command)
    };
    let report = Report::parse(&ask(&["--json"])?)?;
    let mac = mac(&task.inside);
    assert_eq!(report.task(&here.id).context("the task")?["state"], "present");
    assert_eq!(report.field(&mac, "ecs-task-arn"), (here.arn_of_task().as_str(), "agent"));
    assert_eq!(report.field(&mac, "instance-id"), (fake_agent::INSTANCE, "imds"));
    assert_eq!(report.interface(&mac).context("the interface")?["attach"], "not observed");
    let missing = report.missing(&mac);
    let line = missing
        .iter()
        .find(|line| line.starts_with("no interface-id"))
        .context("a line about the ENI")?;
    for word in
        ["agent does not know", "imds does not list this MAC", "--tasks-file", "ecs:DescribeTasks"]
    {
        assert!(line.contains(word), "{line:?} does not say {word:?}");
    }
    let other = report.task(&absent.id).context("the absent task")?;
    assert_eq!(
        (other["state"].as_str(), other["interfaces"].as_array().map(Vec::len)),
        (Some("absent"), Some(0))
    );

    let table = ask(&[])?;
    for word in [
        "TASK",
        "SERVICE",
        "MODE",
        "INTERFACE",
        "ENI",
        "MAC",
        "ADDRESSES",
        "STATE",
        &here.id,
        "web",
        "awsvpc",
        "eth0",
        &mac,
        "10.0.4.128",
        "not observed",
        &absent.id,
        "absent",
        "by agent: ",
        "no interface-id",
    ] {
        assert!(table.contains(word), "{word:?} is not in\n{table}");
    }
    Ok(())
}

#[test]
fn a_task_that_is_not_on_this_host_shows_what_sources_tell_of_it() -> Result<()> {
    let lab = lab!();
    let task = lab.task("elsewhere")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x221);
    let file = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    fake_agent::write_state(&lab.path("agent"), [&ecs])?;
    let ask = |json: &[&str]| -> Result<String> {
        let mut command = command()?;
        command.args(["tasks", "--no-daemon", "--source", "file", "--source", "agent"]).args(json);
        command.arg("--tasks-file").arg(&file).arg("--agent-data").arg(lab.path("agent"));
        run(&mut command)
    };
    let report = Report::parse(&ask(&["--json"])?)?;
    let told = report.task(&ecs.id).context("the task")?;
    assert_eq!(told["state"], "absent");
    let eni = &told["enis"][0];
    assert_eq!(eni["mac"], mac(&task.inside));
    let field = |name: &str| {
        (eni["fields"][name]["value"].as_str(), eni["fields"][name]["source"].as_str())
    };
    assert_eq!(field("interface-id"), (Some(&*ecs.eni), Some("agent")));
    assert_eq!(field("subnet-id"), (Some(&*ecs.subnet), Some("file")));
    assert_eq!(field("eni-ipv4"), (Some("10.0.4.128"), Some("agent")));
    assert_eq!(told["fields"]["ecs-cluster-name"]["value"], ecs.cluster);

    let table = ask(&[])?;
    let row = table.lines().find(|line| line.starts_with(&ecs.id)).context("a row of the task")?;
    let columns: Vec<&str> = row.split_whitespace().collect();
    let mac = mac(&task.inside);
    assert_eq!(columns[1..], ["web", "awsvpc", "-", &ecs.eni, &mac, "10.0.4.128", "absent"]);
    for words in [format!("subnet-id = {}", ecs.subnet), format!("interface-id = {}", ecs.eni)] {
        assert!(table.contains(&words), "{words:?} is not in\n{table}");
    }
    Ok(())
}

/// A daemon with `/proc` among its folders of namespaces would observe everything on this machine.
/// The command only lists it.
#[test]
fn task_metadata_alone_is_found_by_the_environment_of_a_process() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 0x211);
    let tmds = fake_agent::tmds(&Shared::new(vec![ecs.clone()]))?;
    let variable = format!("http://169.254.170.2/v4/{}", ecs.endpoint_id(0));
    let mut process = Command::new("sleep");
    process.arg("100").env("ECS_CONTAINER_METADATA_URI_V4", variable).env("PASSWORD", "s3cret");
    task.inside.namespace().place(&mut process)?;
    let mut child = process.spawn()?;
    drop(process);
    let mut ask = command()?;
    ask.args(["tasks", "--json", "--source", "netns", "--source", "tmds", "--netns-dir", "/proc"]);
    ask.args(["--tmds-url", &tmds.http.url(), "--listen", &free_address()?.to_string()]);
    let text = run(&mut ask);
    child.kill()?;
    child.wait()?;
    let text = text?;
    let report = Report::parse(&text)?;
    let mac = mac(&task.inside);
    for (name, value) in [
        ("ecs-task-arn", ecs.arn_of_task().as_str()),
        ("ecs-service-name", "web"),
        ("vpc-id", fake_agent::VPC),
        ("az-id", fake_agent::AZ),
        ("ecs-container-id", &ecs.containers[0]),
        ("network-mode", "awsvpc"),
    ] {
        assert_eq!(report.field(&mac, name), (value, "tmds"), "{name}");
    }
    assert_eq!(tmds.http.asked().len(), 1, "requests");
    assert!(!text.contains("s3cret"));
    Ok(())
}

#[test]
fn with_a_daemon_it_is_the_daemon_that_tells() -> Result<()> {
    let lab = lab!();
    let (task, here, _) = half_known(&lab)?;
    let setup = lab.daemon().sources(&["netns", "agent"]).set("agent-data", lab.path("agent"));
    let daemon = setup.start()?;
    daemon.wait("the task is known", |page| {
        page.info(&task.inside).is_some_and(|info| info.label("task_id") == here.id)
    })?;
    let mut command = command()?;
    // It has no source of its own, so the answer comes from the daemon.
    command.args(["tasks", "--json", "--source", "host", "--listen", &daemon.listen().to_string()]);
    let report = Report::parse(&run(&mut command)?)?;
    let interface = report.interface(&mac(&task.inside)).context("the interface")?.clone();
    assert_eq!(interface["attach"], "observed");
    assert_eq!(interface["addresses"][0], "10.0.4.128");
    assert_eq!(report.source("agent").context("the source")?["up"], true);
    // With this flag it queries sources itself.
    let report = Report::parse(&run(command.arg("--no-daemon"))?)?;
    assert_eq!(report.interface(&mac(&task.inside)), None);
    daemon.stop()?;
    Ok(())
}

#[test]
fn a_host_without_anything_has_an_empty_table() -> Result<()> {
    let lab = lab!();
    let bare: Namespace = lab.other_namespace("bare")?;
    let mut ask = command()?;
    ask.args(["tasks", "--source", "host", "--listen", &free_address()?.to_string()]);
    bare.place(&mut ask)?;
    assert_eq!(run(&mut ask)?, "");
    Ok(())
}

#[test]
fn urls_are_checked() -> Result<()> {
    let lab = lab!();
    for (flag, value) in [
        ("--imds-url", "169.254.169.254"),
        ("--tmds-url", "https://127.0.0.1"),
        ("--introspection-url", "http://"),
    ] {
        let exit = run_to_end(command()?.args(["tasks", flag, value]), Duration::from_secs(10))?;
        assert_eq!(exit.status.code(), Some(2), "{flag} {value}: {}", exit.stderr);
        assert!(exit.stderr.contains(flag) && exit.stderr.lines().count() == 1, "{}", exit.stderr);
    }
    drop(lab);
    Ok(())
}
