//! A store that permanently refuses files: they are set aside with the reason, and do not block
//! others.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, Result};
use observer_tests::{
    daemon::{Daemon, Setup},
    fake_http::{FakeHttp, Reply, Request},
    lab,
    lab::Lab,
    metrics::Metrics,
    poll,
    records::finished,
    traffic::Udp,
    veth::Family,
};

const GOOD: &str = "111122223333";
const BAD: &str = "000000000000";

/// A finished file of an earlier run. A higher number is newer.
fn file(lab: &Lab, account: &str, number: u32) -> Result<PathBuf> {
    let folder =
        lab.path("daemon-out").join(format!("AWSLogs/{account}/vpcflowlogs/eu-west-1/2026/11/20"));
    fs::create_dir_all(&folder)?;
    let name = format!(
        "{account}_vpcflowlogs_eu-west-1_fl-0123456789abcdef0_20261120T1200Z_{number:08x}.jsonl"
    );
    let file = folder.join(name);
    fs::write(&file, format!("{{\"version\":2,\"number\":{number}}}\n"))?;
    let time =
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + u64::from(number));
    fs::File::options().write(true).open(&file)?.set_modified(time)?;
    Ok(file)
}

/// The path to which a file is set aside.
fn aside(file: &Path) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!(".{name}.refused"))
}

fn deliver<'lab>(lab: &'lab Lab, store: &FakeHttp) -> Setup<'lab> {
    let setup = lab.daemon().window(600).set("deliver", "s3://flow-logs/fleet");
    setup
        .set("deliver-endpoint", store.url())
        .env("AWS_ACCESS_KEY_ID", "observer")
        .env("AWS_SECRET_ACCESS_KEY", "observer")
        .env("AWS_REGION", "eu-west-1")
}

fn error(status: u16, code: &str) -> Reply {
    // A unique request ID, as S3 has.
    let id = std::time::Instant::now().elapsed().as_nanos();
    let message = format!("No {}", fastrand::u64(..));
    Reply::Answer(
        status,
        format!(
            "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>"
        ),
    )
}

fn refuses_bad_accounts(request: &Request) -> Reply {
    if request.path.contains(BAD) { error(403, "AccessDenied") } else { Reply::ok("") }
}

fn all_of(page: &Metrics, name: &str) -> u64 {
    page.sum(name, &[])
}

fn lines_with(daemon: &Daemon<'_>, words: &str) -> usize {
    daemon.said().lines().filter(|line| line.contains(words)).count()
}

#[test]
fn a_file_that_is_refused_for_good_is_set_aside_and_the_others_go() -> Result<()> {
    let lab = lab!();
    let (bad, good) = (file(&lab, BAD, 1)?, file(&lab, GOOD, 2)?);
    let store = FakeHttp::start(refuses_bad_accounts)?;
    let daemon = deliver(&lab, &store).start()?;
    let page = daemon.wait("the refused one is set aside", |page| {
        all_of(page, "observer_set_aside_files") == 1
    })?;
    assert_eq!(all_of(&page, "observer_delivered_files_total"), 1);
    assert_eq!(page.sum("observer_refused_files_total", &[("reason", "denied")]), 1);
    assert_eq!(all_of(&page, "observer_spool_files"), 0);
    assert_eq!(page.get("observer_delivery_failing", &[]), Some(0.0));
    assert!(!good.exists() && !bad.exists() && aside(&bad).exists());
    assert_eq!(lines_with(&daemon, "cannot be delivered"), 1, "{}", daemon.said());
    assert!(daemon.said().contains("403 AccessDenied"), "{}", daemon.said());
    // It is not tried again in this run.
    let asked = store.asked().len();
    let later = file(&lab, GOOD, 3)?;
    daemon.stop()?;
    assert_eq!(
        store.asked().len(),
        asked,
        "files that are not of this run are found at its start alone"
    );
    // The next run tries again, after the cause is fixed.
    drop(store);
    let store = FakeHttp::start(|_| Reply::ok(""))?;
    let daemon = deliver(&lab, &store).start()?;
    daemon.wait("all is delivered", |page| all_of(page, "observer_delivered_files_total") == 2)?;
    daemon.stop()?;
    assert!(!aside(&bad).exists() && !bad.exists() && !later.exists());
    Ok(())
}

#[test]
fn many_files_that_are_refused_hold_up_none_that_is_not() -> Result<()> {
    let lab = lab!();
    let bad: Vec<_> = (0..30).map(|number| file(&lab, BAD, number)).collect::<Result<_>>()?;
    let good = file(&lab, GOOD, 100)?;
    let store = FakeHttp::start(refuses_bad_accounts)?;
    let daemon = deliver(&lab, &store).start()?;
    daemon.wait("all are set aside", |page| all_of(page, "observer_set_aside_files") == 30)?;
    assert!(!good.exists() && bad.iter().all(|file| aside(file).exists()));
    daemon.stop()?;
    Ok(())
}

#[test]
fn a_store_that_refuses_everything_keeps_files_waiting_and_is_logged_once() -> Result<()> {
    let lab = lab!();
    for code in ["AccessDenied", "InvalidAccessKeyId"] {
        let files = [file(&lab, BAD, 1)?, file(&lab, GOOD, 2)?];
        let allowed = Arc::new(AtomicBool::new(false));
        let allows = Arc::clone(&allowed);
        let store = FakeHttp::start(move |_| {
            if allows.load(Ordering::Relaxed) { Reply::ok("") } else { error(403, code) }
        })?;
        let daemon = deliver(&lab, &store).start()?;
        poll::until_true("it is asked again and again", poll::PATIENCE, || {
            Ok(store.asked().len() >= 4)
        })?;
        let page = daemon.metrics()?;
        assert_eq!(page.get("observer_delivery_failing", &[]), Some(1.0), "{code}");
        assert_eq!(all_of(&page, "observer_set_aside_files"), 0, "{code}");
        assert!(files.iter().all(|file| file.exists()), "{code}");
        assert_eq!(lines_with(&daemon, "cannot be delivered"), 1, "{}", daemon.said());
        allowed.store(true, Ordering::Relaxed);
        daemon
            .wait("all is delivered", |page| all_of(page, "observer_delivered_files_total") == 2)?;
        daemon.stop()?;
        assert!(!files.iter().any(|file| file.exists()), "{code}");
    }
    Ok(())
}

#[test]
fn a_file_that_always_takes_a_passing_error_does_not_hold_up_the_others() -> Result<()> {
    let lab = lab!();
    let (bad, good) = (file(&lab, BAD, 1)?, file(&lab, GOOD, 2)?);
    let store = FakeHttp::start(|request| {
        if request.path.contains(BAD) { error(503, "SlowDown") } else { Reply::ok("") }
    })?;
    let daemon = deliver(&lab, &store).start()?;
    daemon.wait("the other is delivered", |page| {
        all_of(page, "observer_delivered_files_total") == 1
    })?;
    assert!(bad.exists() && !good.exists());
    assert_eq!(all_of(&daemon.metrics()?, "observer_set_aside_files"), 0);
    daemon.stop()?;
    assert!(bad.exists());
    Ok(())
}

#[test]
fn what_is_set_aside_counts_against_the_spool_and_goes_first() -> Result<()> {
    const SIZE: u64 = 100_000;
    let lab = lab!();
    let task = lab.task("task")?;
    let bad = file(&lab, BAD, 1)?;
    fs::write(&bad, vec![b'x'; SIZE as usize])?;
    let good = file(&lab, GOOD, 1_000_000_000)?;
    let room = fs::metadata(&good)?.len();
    let store = FakeHttp::start(refuses_bad_accounts)?;
    let setup = deliver(&lab, &store).window(1).set("file-size", "1B").set("account-id", GOOD);
    let daemon = setup.set("spool-size", format!("{}B", SIZE + room)).start()?;
    let udp = Udp { family: Family::V4, flows: 1, packets: 1, payload: 1 };
    // A record file for which there is no room beside the other.
    let sent = udp.send(&task.inside, &task.outside)?;
    let page =
        daemon.wait("it is dropped", |page| all_of(page, "observer_dropped_files_total") == 1)?;
    assert_eq!(all_of(&page, "observer_refused_files_total"), 1);
    assert_eq!(all_of(&page, "observer_set_aside_bytes"), 0);
    daemon.wait("all is counted", |page| page.recorded(&task.inside).egress == sent)?;
    let out = daemon.out().to_path_buf();
    daemon.stop()?;
    assert_eq!(finished(&out, "jsonl")?, Vec::<PathBuf>::new(), "the others are delivered");
    assert!(!bad.exists() && !aside(&bad).exists());
    Ok(())
}

#[test]
fn buckets_with_object_lock_get_a_checksum_of_every_object() -> Result<()> {
    let lab = lab!();
    for (flags, header) in [
        (&[][..], Some("x-amz-checksum-sha256")),
        (&[("deliver-checksum", "crc64nvme")][..], Some("x-amz-checksum-crc64nvme")),
        (&[("deliver-checksum", "none")][..], None),
    ] {
        file(&lab, GOOD, 1)?;
        let store = FakeHttp::start(|_| Reply::ok(""))?;
        let setup =
            flags.iter().fold(deliver(&lab, &store), |setup, (name, value)| setup.set(name, value));
        let daemon = setup.start()?;
        daemon
            .wait("it is delivered", |page| all_of(page, "observer_delivered_files_total") == 1)?;
        daemon.stop()?;
        let asked = store.asked();
        let put = asked.iter().find(|request| request.method == "PUT").context("a PUT")?;
        let sent: Vec<_> =
            put.headers.keys().filter(|name| name.starts_with("x-amz-checksum")).collect();
        assert_eq!(sent, header.iter().collect::<Vec<_>>(), "{flags:?}");
        assert!(!put.headers.contains_key("x-amz-server-side-encryption"));
    }
    Ok(())
}

#[test]
fn objects_are_encrypted_with_the_key_that_is_given() -> Result<()> {
    const KEY: &str = "arn:aws:kms:eu-west-1:111122223333:key/0e0f1d2c-3b4a-5968-7786-95a4b3c2d1e0";
    let lab = lab!();
    file(&lab, GOOD, 1)?;
    let store = FakeHttp::start(|_| Reply::ok(""))?;
    let daemon = deliver(&lab, &store).set("deliver-kms-key", KEY).start()?;
    daemon.wait("it is delivered", |page| all_of(page, "observer_delivered_files_total") == 1)?;
    daemon.stop()?;
    let asked = store.asked();
    let put = asked.iter().find(|request| request.method == "PUT").context("a PUT")?;
    assert_eq!(put.headers["x-amz-server-side-encryption"], "aws:kms");
    assert_eq!(put.headers["x-amz-server-side-encryption-aws-kms-key-id"], KEY);
    // An unsigned header could be removed on the way.
    assert!(put.headers["authorization"].contains("x-amz-server-side-encryption-aws-kms-key-id"));
    Ok(())
}
