//! `run`: builds the daemon and starts it as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use anyhow::{Context as _, Result};

use crate::{build, paths::Paths, process, progress};

/// First words of an `observer` command line. Anything else is an argument of `observer run`.
const COMMANDS: [&str; 12] = [
    "run",
    "check",
    "tasks",
    "flows",
    "top",
    "schema",
    "replay",
    "config",
    "help",
    "version",
    "--version",
    "-V",
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of `observer run`, or another command of observer with its own
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(paths: &Paths, args: Args) -> Result<()> {
    progress::plan(build::steps(paths)?);
    build::all(paths)?;
    let mut command = process::as_root(&paths.daemon(), &[])?;
    command.args(complete(args.args));
    // Replaces this process, so that signals and the exit code are the daemon's own.
    Err(command.exec()).context("the daemon could not be started")
}

fn complete(args: Vec<OsString>) -> Vec<OsString> {
    let named = args.first().is_some_and(|first| COMMANDS.iter().any(|command| first == command));
    let run = (!named).then(|| OsString::from("run"));
    run.into_iter().chain(args).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_is_the_command_that_may_be_left_out() {
        let check = |args: &[&str], expected: &[&str]| {
            assert_eq!(complete(args.iter().map(OsString::from).collect()), expected);
        };
        check(&[], &["run"]);
        check(&["--window", "60"], &["run", "--window", "60"]);
        check(&["run", "--window", "60"], &["run", "--window", "60"]);
        check(&["flows", "--follow"], &["flows", "--follow"]);
    }
}
