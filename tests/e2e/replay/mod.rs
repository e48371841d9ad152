//! `observer replay`: captures of every format and kind, and captures taken during a daemon's run.

mod beside;
mod corpus;
mod faults;
mod formats;
mod fragments;
mod interfaces;
mod lengths;
mod samples;
mod time;

use std::{fs, io::Write as _, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};
use observer_tests::{
    daemon::{Exit, command, run_to_end},
    lab::Lab,
    records::{Record, Records},
};
use serde_json::Value;

/// 2026-01-01T00:00:00Z, in seconds: the beginning of a window of any length.
const BEGIN: u64 = 1_767_225_600;
const SECOND: u64 = 1_000_000_000;

/// Result of a replay.
#[derive(Debug)]
struct Replayed {
    records: Records,
    report: Value,
    exit: Exit,
}

impl Replayed {
    /// A number in the report, by its path.
    fn count(&self, path: &str) -> u64 {
        let pointer = format!("/{}", path.replace('.', "/"));
        self.report.pointer(&pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Asserts that the report accounts for every packet.
    fn assert_complete(&self) {
        let sum = |key: &str, of: fn(&Value) -> u64| -> u64 {
            let map = self.report.get(key).and_then(Value::as_object);
            map.map_or(0, |map| map.values().map(of).sum())
        };
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        let lost = sum("lost", |lost| lost["packets"].as_u64().unwrap_or(0));
        let known = ["recorded.captured", "no_direction", "no_time"].map(|path| self.count(path));
        assert_eq!(
            self.count("packets"),
            known.iter().sum::<u64>() + lost + sum("non_ip", number) + sum("other_link", number),
            "{}",
            self.report
        );
    }
}

/// Replays a capture with these arguments; JSON lines go to a new folder, and the report is JSON.
fn replay(lab: &Lab, capture: &[u8], args: &[&str]) -> Result<Replayed> {
    let replayed = attempt(lab, capture, args)?;
    ensure!(replayed.exit.status.success(), "{}", replayed.exit.stderr);
    replayed.assert_complete();
    Ok(replayed)
}

/// The same, for a replay that may fail but prints a report.
fn attempt(lab: &Lab, capture: &[u8], args: &[&str]) -> Result<Replayed> {
    let file = lab.path("capture");
    fs::write(&file, capture)?;
    attempt_file(lab, &file, args)
}

fn attempt_file(lab: &Lab, file: &Path, args: &[&str]) -> Result<Replayed> {
    let out = tempfile::tempdir_in(lab.path("."))?;
    let mut command = command()?;
    command.arg("replay").arg(file).args(args).arg("--json").arg("--output-dir").arg(out.path());
    let exit = run(&mut command)?;
    let report = exit.stderr.lines().next().context("no report")?;
    let report = serde_json::from_str(report).with_context(|| exit.stderr.clone())?;
    ensure!(exit.stdout.is_empty(), "standard output: {}", exit.stdout);
    Ok(Replayed { records: Records::read(out.path())?, report, exit })
}

fn run(command: &mut Command) -> Result<Exit> {
    run_to_end(command, Duration::from_mins(1))
}

/// Runs a command with `bytes` as standard input.
fn fed(command: &mut Command, bytes: &[u8]) -> Result<Exit> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    run(command.stdin(file))
}

/// Start and end of a record, in UNIX milliseconds.
fn times(record: &Record) -> (u64, u64) {
    (record.number("start_ms").unwrap_or(0), record.number("end_ms").unwrap_or(0))
}
