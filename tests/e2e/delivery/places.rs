//! Places of delivery: the keys in a bucket, a bucket's reader, folders, and wrong places.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use observer_tests::{
    daemon::run_to_end,
    fake_ecs::{self, FakeTask},
    lab, need,
    python::Python,
    records::{Records, finished},
    store::{BUCKET, Store, Way},
    tally::Tally,
};

use super::{UDP, assert_delivered, deliver, progress::delivered, send, to};

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
