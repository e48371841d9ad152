//! A large file that is delivered in parts, and the parts of an upload that was interrupted.

use std::fs;

use anyhow::{Context as _, Result};
use observer_tests::{lab, need, poll, python::Python, store::Fault};

use super::{deliver, large::Large, progress::failing};

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
