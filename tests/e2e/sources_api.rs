//! The Amazon ECS API as a source, simulated by moto.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use observer_tests::{
    books::Books,
    daemon::{Setup, free_address},
    fake_agent::{self, Shared},
    fake_ecs::FakeTask,
    fake_http::{FakeHttp, Reply},
    lab,
    lab::Lab,
    moto::{self, Keys, Moto, MotoTask},
    need,
    records::Status,
    tally::Crossed,
    traffic::Udp,
    veth::{Addresses, Family, Task, quiet},
};

const UDP: Udp = Udp { family: Family::V4, flows: 2, packets: 20, payload: 64 };

/// A task on this host that the API knows; the agent's endpoint lists it.
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
    // Without changes, there are no further queries.
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

/// A metadata service with the instance's credentials, and the task's below `/task`.
fn metadata(keys: &Keys) -> Result<FakeHttp> {
    let credentials = serde_json::json!({
        "Code": "Success", "AccessKeyId": keys.id, "SecretAccessKey": keys.secret, "Token": keys.token,
        "Expiration": "2099-01-01T00:00:00Z"
    })
    .to_string();
    FakeHttp::start(move |request| {
        const ROLES: &str = "/latest/meta-data/iam/security-credentials/";
        let has_token =
            request.headers.get("x-aws-ec2-metadata-token").is_some_and(|token| token == "a-token");
        match (request.method.as_str(), request.path.as_str()) {
            ("PUT", "/latest/api/token") => Reply::ok("a-token"),
            ("GET", ROLES) if has_token => Reply::ok("host-role"),
            ("GET", path) if has_token && path.strip_prefix(ROLES) == Some("host-role") => {
                Reply::ok(credentials.clone())
            }
            ("GET", "/task") => Reply::ok(credentials.clone()),
            _ => Reply::status(404),
        }
    })
}

#[test]
fn requests_are_signed_with_the_credentials_of_each_place() -> Result<()> {
    let lab = lab!();
    need!(moto::required());
    let moto = Moto::start(&lab)?;
    let known = moto.run_task("web")?;
    moto.keep_tasks()?;
    let keys = moto.require_signatures()?;
    let (task, introspection) = here(&lab, &known)?;
    let metadata = metadata(&keys)?;
    let profile = lab.path("credentials");
    let contents =
        "[default]\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n\n[host]\n";
    let Keys { id, secret, token } = &keys;
    let keys = format!(
        "aws_access_key_id = {id}\naws_secret_access_key = {secret}\naws_session_token = {token}\n"
    );
    fs::write(&profile, format!("{contents}{keys}"))?;
    let profile = profile.to_str().context("a path")?;
    let task_role = format!("{}/task", metadata.url());
    let home = lab.path("home");
    let home = home.to_str().context("a path")?;
    let url = metadata.url();
    let places: [(&'static str, &[(&'static str, &str)]); 4] = [
        (
            "environment",
            &[
                ("AWS_ACCESS_KEY_ID", id),
                ("AWS_SECRET_ACCESS_KEY", secret),
                ("AWS_SESSION_TOKEN", token),
            ],
        ),
        ("profile", &[("AWS_SHARED_CREDENTIALS_FILE", profile), ("AWS_PROFILE", "host")]),
        ("task", &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &task_role)]),
        (
            "instance",
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url), ("AWS_EC2_METADATA_DISABLED", "false")],
        ),
    ];
    for (name, variables) in places {
        let mut setup = asking(&lab, &introspection, &moto.url()).name(name);
        let common = [("HOME", home), ("AWS_EC2_METADATA_DISABLED", "true")];
        for (name, value) in common.iter().chain(variables) {
            setup = setup.env(name, value);
        }
        let daemon = setup.start()?;
        daemon
            .wait("the ENI is known", |page| {
                page.info(&task.inside).is_some_and(|info| info.label("interface_id") == known.eni)
            })
            .with_context(|| format!("credentials from {name}: {}", daemon.said()))?;
        daemon.stop()?;
    }
    // moto verifies signatures here.
    let daemon = asking(&lab, &introspection, &moto.url())
        .env("AWS_ACCESS_KEY_ID", id)
        .env("AWS_SECRET_ACCESS_KEY", "another")
        .env("AWS_SESSION_TOKEN", token)
        .start()?;
    daemon.wait_report("it is refused", |report| {
        let api = report.source("api").and_then(|api| api["detail"].as_str());
        api.is_some_and(|detail| detail.contains("status 403"))
    })?;
    daemon.stop()?;
    Ok(())
}

#[test]
fn metadata_services_are_not_asked_through_a_proxy() -> Result<()> {
    let lab = lab!();
    need!(moto::required());
    let moto = Moto::start(&lab)?;
    let known = moto.run_task("web")?;
    let (_task, introspection) = here(&lab, &known)?;
    let metadata = metadata(&Keys {
        id: "AKIAHOST".to_owned(),
        secret: "secret".to_owned(),
        token: "token".to_owned(),
    })?;
    let proxy = FakeHttp::start(|_| Reply::status(502))?;
    // Only the proxy can resolve this name.
    let api = "http://ecs.proxied.example/";
    let daemon = asking(&lab, &introspection, api)
        .env("HOME", lab.path("home"))
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.url())
        .env("HTTP_PROXY", proxy.url())
        .env("http_proxy", proxy.url())
        .env("NO_PROXY", "")
        .env("no_proxy", "")
        .start()?;
    daemon.wait_report("the proxy refuses", |report| {
        let api = report.source("api").and_then(|api| api["detail"].as_str());
        api.is_some_and(|detail| detail.contains("status 502"))
    })?;
    daemon.stop()?;
    assert!(metadata.asked().len() >= 3, "{:?}", metadata.asked());
    assert!(proxy.asked().iter().all(|request| request.path == api), "{:?}", proxy.asked());
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
        missing
            .iter()
            .any(|line| line.starts_with("no interface-id") && line.contains("ecs:DescribeTasks")),
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
    daemon.wait("it is down", |page| {
        page.get("observer_source_up", &[("source", "api")]) == Some(0.0)
    })?;
    daemon.wait_windows(2)?;
    let books = Books::close(daemon, [&task.inside])?;
    books.assert_exact(&task.inside, Crossed::egress(sent));
    Ok(())
}
