//! Wrong usage: an exit code for the kind of error, and one line that says how to fix it.

mod environment;
mod inputs;
mod sources;
mod values;

use std::{process::Command, time::Duration};

use anyhow::Result;
use observer_tests::{daemon::run_to_end, lab::Lab};

const USAGE: i32 = 2;
const HOST: i32 = 3;

/// Starts a daemon misconfigured by `change`. It must exit with `code` and print one line that
/// contains `word`.
fn refused(
    lab: &Lab,
    code: i32,
    word: &str,
    change: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<()> {
    let (mut command, _) = lab.daemon().command()?;
    change(&mut command)?;
    let exit = run_to_end(&mut command, Duration::from_secs(10))?;
    let said = &exit.stderr;
    assert_eq!(exit.status.code(), Some(code), "exit code of {command:?}, which said:\n{said}");
    assert_eq!(said.lines().count(), 1, "lines on stderr:\n{said}");
    assert!(said.starts_with("observer: "), "{said:?}");
    assert!(said.contains(word), "{said:?} does not say {word:?}");
    assert_eq!(exit.stdout, "", "standard output");
    Ok(())
}
