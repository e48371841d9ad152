//! Delivery of finished files to an S3 that fails, hangs, is slow or unavailable. Each file arrives
//! once and complete.

mod large;
mod progress;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    daemon::{Daemon, Setup, run_to_end},
    fake_ecs::{self, FakeTask},
    lab,
    lab::Lab,
    metrics::Metrics,
    need, poll,
    python::Python,
    records::{Records, finished},
    store::{BUCKET, Fault, Store, Way},
    tally::Tally,
    traffic::Udp,
    veth::{Family, Task},
};

use self::{
    large::Large,
    progress::{delivered, failing, waiting},
};

const UDP: Udp = Udp { family: Family::V4, flows: 10, packets: 2, payload: 8 };

/// A daemon that finishes a file in every window and delivers it.
fn deliver<'lab>(lab: &'lab Lab, way: &Way) -> Setup<'lab> {
    to(lab, &format!("s3://{BUCKET}/fleet")).set("deliver-endpoint", way.endpoint())
}

fn to<'lab>(lab: &'lab Lab, url: &str) -> Setup<'lab> {
    let setup = lab.daemon().window(1).set("file-size", "1B").set("deliver", url);
    setup
        .env("AWS_ACCESS_KEY_ID", "observer")
        .env("AWS_SECRET_ACCESS_KEY", "observer")
        .env("AWS_REGION", "eu-west-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

/// Sends traffic, and waits until all of it is in finished files.
fn send(daemon: &Daemon<'_>, task: &Task) -> Result<Tally> {
    let written = |page: &Metrics| page.sum("observer_records_total", &[("log_status", "OK")]);
    let before = written(&daemon.metrics()?);
    let sent = UDP.send(&task.inside, &task.outside)?;
    daemon.wait("the flows are written", |page| written(page) >= before + u64::from(UDP.flows))?;
    Ok(sent)
}

/// Downloads the store's objects and parses them as record files.
fn stored(store: &Store, at: &Path) -> Result<(Records, BTreeSet<String>)> {
    let keys = store.download(at)?;
    assert!(keys.iter().all(|key| key.starts_with("fleet/AWSLogs/")), "{keys:?}");
    Ok((Records::read(&at.join("fleet"))?, keys.into_iter().collect()))
}

/// Asserts that all traffic is in the store, once, and that no file is left on disk.
fn assert_delivered(store: &Store, lab: &Lab, out: &Path, task: &Task, sent: Tally) -> Result<()> {
    assert_eq!(finished(out, "jsonl")?, Vec::<PathBuf>::new(), "files that are still on the disk");
    let (records, _) = stored(store, &lab.path("stored"))?;
    assert_eq!(records.recorded(task.inside.mac()).egress, sent, "what the objects hold");
    assert_eq!(store.unfinished()?, 0, "uploads without an end");
    Ok(())
}

#[test]
fn finished_files_become_objects_under_aws_s_keys() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    let daemon = deliver(&lab, &way).also_output("text").also_output("parquet").start()?;
    let sent = send(&daemon, &task)?;
    daemon.wait("files are delivered", |page| delivered(page) >= 3)?;
    let out = daemon.out().to_path_buf();
    // Files that are finished at the stop are delivered too.
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)?;
    let keys = store.keys()?;
    for ending in [".jsonl", ".log.gz", ".log.parquet"] {
        let of_kind: Vec<_> = keys.iter().filter(|key| key.ends_with(ending)).collect();
        assert!(!of_kind.is_empty(), "no {ending} in {keys:?}");
    }
    Ok(())
}

/// Runs with a fault for a while, and checks that nothing is lost or duplicated.
fn survives(fault: Fault, test: &str) -> Result<()> {
    let lab = Lab::new(test, 1)?;
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    let daemon = deliver(&lab, &way).start()?;
    let mut sent = send(&daemon, &task)?;
    daemon.wait("the first file is delivered", |page| delivered(page) >= 1)?;
    way.set(fault);
    let before = store.keys()?.len();
    sent += send(&daemon, &task)?;
    poll::until("the delivery fails", Duration::from_secs(40), || {
        Ok((failing(&daemon.metrics()?)).then_some(()))
    })
    .with_context(|| daemon.said())?;
    sent += send(&daemon, &task)?;
    // At most one file more: its upload had begun before the fault.
    assert!(store.keys()?.len() <= before + 1, "{fault:?}: objects that came through");
    assert_eq!(daemon.get("/readyz")?.status, 200);
    way.set(Fault::None);
    daemon.wait("all is delivered", |page| !failing(page) && waiting(page) == Some(0.0))?;
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)
}

#[test]
fn a_store_that_refuses_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Refuse, observer_tests::test_name!())
}

#[test]
fn a_store_that_answers_500_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Error, observer_tests::test_name!())
}

#[test]
fn a_page_in_the_place_of_an_answer_is_no_delivery() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Page, observer_tests::test_name!())
}

#[test]
fn a_store_that_hangs_gets_all_of_it_later() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Hang, observer_tests::test_name!())
}

#[test]
fn a_put_that_is_cut_midway_leaves_no_part_of_a_file() -> Result<()> {
    need!(observer_tests::requires::root());
    survives(Fault::Cut(2000), observer_tests::test_name!())
}

#[test]
fn a_store_that_is_slow_delays_files_alone() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Slow);
    let daemon = deliver(&lab, &way).start()?;
    let sent = send(&daemon, &task)?;
    daemon.wait("all is delivered", |page| delivered(page) >= 1 && waiting(page) == Some(0.0))?;
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)
}

#[test]
fn a_store_that_stops_and_starts_again_gets_every_file_once() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let address = store.address();
    let way = Way::to(address)?;
    let daemon = deliver(&lab, &way).start()?;
    let mut sent = send(&daemon, &task)?;
    daemon.wait("the first files are delivered", |page| {
        delivered(page) >= 1 && waiting(page) == Some(0.0)
    })?;
    way.set(Fault::Refuse);
    // The server keeps objects in memory, so they are read before it stops.
    let (before, first) = stored(&store, &lab.path("before"))?;
    drop(store);
    way.set(Fault::None);
    sent += send(&daemon, &task)?;
    daemon.wait("files wait", |page| failing(page) && waiting(page) > Some(0.0))?;
    let store = Store::start_at(&python, &lab.path("moto-again"), address)?;
    daemon.wait("all is delivered", |page| waiting(page) == Some(0.0))?;
    daemon.stop()?;
    let (after, second) = stored(&store, &lab.path("after"))?;
    let both = before.recorded(task.inside.mac()).egress + after.recorded(task.inside.mac()).egress;
    assert_eq!(both, sent);
    assert_eq!(first.intersection(&second).count(), 0, "objects in both");
    Ok(())
}

#[test]
fn a_daemon_that_is_killed_while_it_delivers_delivers_once() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Hang);
    let daemon = deliver(&lab, &way).start()?;
    let sent = send(&daemon, &task)?;
    daemon.wait("a file is on its way", |page| waiting(page) > Some(0.0))?;
    poll::until_true("the store is asked", poll::PATIENCE, || Ok(way.connections() > 0))?;
    let out = daemon.out().to_path_buf();
    daemon.kill();
    assert_eq!(store.keys()?, Vec::<String>::new());
    let files = finished(&out, "jsonl")?;
    assert!(!files.is_empty());
    way.set(Fault::None);
    let daemon = deliver(&lab, &way).start()?;
    daemon.wait("what was left is delivered", |page| {
        waiting(page) == Some(0.0) && delivered(page) > 0
    })?;
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent)?;
    let keys = store.keys()?;
    for file in files {
        let key = format!("fleet/{}", file.strip_prefix(&out)?.display());
        assert_eq!(keys.iter().filter(|it| **it == key).count(), 1, "{key}");
    }
    Ok(())
}

#[test]
fn a_large_file_whose_parts_are_cut_is_delivered_whole() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let large = Large::new(&lab, &python)?;
    // An upload can start, but every part of 8 MiB is cut.
    large.way.set(Fault::Cut(6 << 20));
    let daemon = deliver(&lab, &large.way).start()?;
    daemon.wait("the delivery fails", failing)?;
    assert_eq!(large.store.keys()?, Vec::<String>::new(), "a part is taken for a file");
    assert!(large.file.exists());
    large.way.set(Fault::None);
    large.assert_delivered(&lab, daemon)
}

/// Kills a daemon during an upload, and starts another with this fault in front of the store.
fn assert_parts_of_a_killed_daemon_are_removed(fault: Fault) -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let large = Large::new(&lab, &python)?;
    large.way.set(Fault::Slow);
    let daemon = deliver(&lab, &large.way).start()?;
    // Started and recorded in the daemon's state: before that, only the store knows the upload.
    let name = large.file.file_name().context("a name")?.to_string_lossy();
    let note = large.file.with_file_name(format!(".{name}.upload"));
    poll::until_true("an upload is begun", poll::PATIENCE, || {
        let noted = fs::read(&note).is_ok_and(|id| !id.is_empty());
        Ok(noted && large.store.unfinished()? == 1)
    })?;
    daemon.kill();
    large.way.set(fault);
    assert_eq!(large.store.keys()?, Vec::<String>::new(), "a part is taken for a file");
    assert_eq!(large.store.unfinished()?, 1, "what is to be removed");
    assert!(fs::read(&large.file)? == large.content);
    let daemon = deliver(&lab, &large.way).start()?;
    large.assert_delivered(&lab, daemon)
}

#[test]
fn parts_that_a_killed_daemon_has_sent_are_removed_by_the_next() -> Result<()> {
    assert_parts_of_a_killed_daemon_are_removed(Fault::None)
}

#[test]
fn parts_that_the_store_does_not_remove_at_once_are_removed_with_the_file() -> Result<()> {
    // The first request of the second daemon removes the parts.
    assert_parts_of_a_killed_daemon_are_removed(Fault::RefuseOne)
}

#[test]
fn flowlogs_reader_finds_every_record_of_a_bucket() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    let ecs = FakeTask::new(&task.inside, "web", 1);
    let tasks = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    for output in ["text", "parquet"] {
        let setup =
            to(&lab, &format!("s3://{BUCKET}/{output}")).set("deliver-endpoint", way.endpoint());
        let setup =
            setup.name(output).only_output(output).set("log-format", "ecs").tasks_file(&tasks);
        let daemon = setup.start()?;
        // NODATA is a record too.
        daemon.wait_windows(1)?;
        let sent = UDP.send(&task.inside, &task.outside)?;
        daemon.wait("all is counted", |page| page.recorded(&task.inside).egress == sent)?;
        daemon.stop()?;
        let location = format!("{BUCKET}/{output}");
        let endpoint = format!("http://{}", store.address());
        let said = python.run("bucket.py", [endpoint, location].map(std::ffi::OsString::from))?;
        let rows: Vec<serde_json::Value> =
            said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect::<Result<_>>()?;
        let ours: Vec<_> =
            rows.iter().filter(|row| row["interface_id"] == ecs.eni.as_str()).collect();
        let sum = |key: &str| ours.iter().filter_map(|row| row[key].as_u64()).sum();
        assert_eq!(Tally::new(sum("packets"), sum("bytes")), sent, "{output}");
        let silent = ours.iter().filter(|row| row["log_status"] == "NODATA").count();
        assert!(silent > 0, "{output}: {rows:?}");
        for row in ours.iter().filter(|row| row["log_status"] == "OK") {
            assert_eq!(row["flow_direction"], "egress", "{output}");
            assert_eq!(row["account_id"], ecs.account.as_str(), "{output}");
        }
    }
    Ok(())
}

#[test]
fn what_is_more_than_the_spool_holds_is_dropped_and_counted() -> Result<()> {
    const SPOOL: u64 = 20_000;
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Refuse);
    let daemon = deliver(&lab, &way).set("spool-size", format!("{SPOOL}B")).start()?;
    let mut sent = Tally::default();
    while daemon.metrics()?.sum("observer_dropped_files_total", &[]) < 3 {
        sent += send(&daemon, &task)?;
    }
    let page = daemon.metrics()?;
    assert!(
        page.get("observer_spool_bytes", &[]) <= Some(SPOOL as f64),
        "{}",
        page.shown("observer_spool")
    );
    way.set(Fault::None);
    let page = daemon.wait("the rest is delivered", |page| waiting(page) == Some(0.0))?;
    let labels = [("stage", "sink"), ("reason", "spool_full")];
    let lost = Tally::new(
        page.sum("observer_lost_packets_total", &labels),
        page.sum("observer_lost_bytes_total", &labels),
    );
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_delivered(&store, &lab, &out, &task, sent - lost)
}

#[test]
fn a_store_that_never_answers_does_not_hold_up_the_end() -> Result<()> {
    let lab = lab!();
    let python = need!(Python::find());
    let task = lab.task("task")?;
    let store = Store::start(&python, &lab.path("moto"))?;
    let way = Way::to(store.address())?;
    way.set(Fault::Hang);
    let daemon = deliver(&lab, &way).set("stop-timeout", "3").start()?;
    let sent = send(&daemon, &task)?;
    let out = daemon.out().to_path_buf();
    let said = daemon.stop()?.said;
    assert!(said.contains("the next start delivers them"), "{said}");
    assert_eq!(
        Records::read(&out)?.recorded(task.inside.mac()).egress,
        sent,
        "what is on the disk"
    );
    Ok(())
}

#[test]
fn a_folder_takes_files_like_a_bucket() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let folder = lab.path("elsewhere");
    let daemon = to(&lab, &format!("file://{}", folder.display())).start()?;
    let sent = send(&daemon, &task)?;
    let out = daemon.stop()?.out;
    assert_eq!(finished(&out, "jsonl")?, Vec::<PathBuf>::new());
    assert_eq!(Records::read(&folder)?.recorded(task.inside.mac()).egress, sent);
    Ok(())
}

#[test]
fn a_place_that_is_none_is_refused_before_anything_starts() -> Result<()> {
    let lab = lab!();
    let out = lab.path("daemon-out");
    let link = lab.path("link");
    std::os::unix::fs::symlink(lab.path("."), &link)?;
    let [over, within] =
        [link.join("daemon-out"), out.join("store")].map(|it| format!("file://{}", it.display()));
    for (flags, word) in [
        (&["--deliver", "bucket"][..], "s3://BUCKET/PREFIX"),
        (&["--deliver", &over], "outside of it"),
        (&["--deliver", &within], "outside of it"),
        (&["--deliver", "s3://Bad_Bucket/x"], "Bad_Bucket"),
        (&["--deliver", "s3://bucket/AWSLogs"], "leave AWSLogs out"),
        (&["--deliver", "ftp://bucket/x"], "ftp://bucket/x"),
        (&["--deliver", "s3://bucket", "--deliver-endpoint", "localhost"], "--deliver-endpoint"),
        (&["--deliver", "s3://bucket", "--spool-size", "1MB"], "--spool-size"),
        (&["--spool-size", "1GB"], "--deliver"),
        (&["--deliver-kms-key", "alias/logs"], "--deliver"),
        (&["--deliver-checksum", "sha256"], "--deliver"),
        (&["--deliver", "gs://bucket", "--deliver-kms-key", "alias/logs"], "--deliver-kms-key"),
        (&["--deliver", "s3://bucket", "--deliver-kms-key", "my key"], "\"my key\""),
        (&["--filter", "drop ports=1"], "\"ports\""),
        (&["--log-format", "${srcaddr} ${srcaddr}"], "twice"),
        (&["--log-format", ""], "names no field"),
        (&["--log-format", "${sourceaddr}"], "sourceaddr"),
        (&["--partition", "weekly"], "weekly"),
        (&["--ip-ranges", "/nowhere"], "/nowhere"),
    ] {
        let (mut command, _) = lab.daemon().command()?;
        let exit = run_to_end(command.args(flags), Duration::from_secs(10))?;
        let said = exit.stderr;
        assert_eq!(exit.status.code(), Some(2), "{flags:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{flags:?}: {said}");
        assert!(said.starts_with("observer: ") && said.contains(word), "{flags:?}: {said}");
        assert!(!out.exists(), "{flags:?}: something was started");
    }
    Ok(())
}
