//! Delivery of finished files to an S3 that fails, hangs, is slow or unavailable. Each file arrives
//! once and complete.

mod faults;
mod interrupted;
mod large;
mod parts;
mod places;
mod progress;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::Result;
use observer_tests::{
    daemon::{Daemon, Setup},
    lab::Lab,
    metrics::Metrics,
    records::{Records, finished},
    store::{BUCKET, Store, Way},
    tally::Tally,
    traffic::Udp,
    veth::{Family, Task},
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
