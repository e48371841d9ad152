//! Instance metadata that forgets its tokens, fails, answers late or never.

use anyhow::Result;
use observer_tests::{
    books::Books,
    daemon::Setup,
    fake_agent::{self, Instance, Mood, Shared},
    fake_http::FakeHttp,
    lab,
    lab::Lab,
    metrics::Metrics,
    tally::Crossed,
    veth::Task,
};

use super::{UDP, asking, assert_recorded, up, wait_label};

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
