//! The test targets of the tests' package: how cargo builds them, their programs, and the tests in
//! each program.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Result;
use serde_json::Value;

use crate::{paths::Paths, process};

/// The test targets of the tests' package.
pub(crate) const PROGRAMS: [&str; 5] = ["--release", "-p", "observer-tests", "--test", "*"];

/// Builds the test targets of the tests' package; returns their names and programs.
pub(crate) fn programs(paths: &Paths) -> Result<Vec<(String, PathBuf)>> {
    let mut cargo = paths.cargo();
    cargo
        .args(["test", "--quiet", "--no-run"])
        .args(PROGRAMS)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit());
    let build = cargo.output().map_err(|error| process::cannot_start(&cargo, &error))?;
    process::succeeded(&cargo, build.status)?;
    Ok(programs_in(&String::from_utf8_lossy(&build.stdout)))
}

/// The names and programs of test targets in cargo's messages.
fn programs_in(messages: &str) -> Vec<(String, PathBuf)> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter(|message| {
            message["reason"] == "compiler-artifact" && message["target"]["kind"][0] == "test"
        })
        .filter_map(|message| {
            let name = message["target"]["name"].as_str()?.to_owned();
            Some((name, message["executable"].as_str()?.into()))
        })
        .collect()
}

/// The tests of a program that these arguments choose.
pub(crate) fn tests_of(program: &Path, args: &[String]) -> Result<Vec<String>> {
    let mut list = Command::new(program);
    list.args(["--list", "--format", "terse"]).args(args);
    Ok(tests_in(&process::output(&mut list)?))
}

fn tests_in(list: &str) -> Vec<String> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_told_from_libraries_and_other_programs() {
        let messages = r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"e2e"},"executable":null}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"bench"},"executable":"/t/bench-1"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"e2e"},"executable":"/t/e2e-1"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(programs_in(messages), [("e2e".to_owned(), PathBuf::from("/t/e2e-1"))]);
    }

    #[test]
    fn tests_are_told_from_benchmarks() {
        assert_eq!(tests_in("flows::a: test\nfast: bench\nb: test\n"), ["flows::a", "b"]);
    }
}
