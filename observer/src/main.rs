//! The `observer` command.

use std::{env, process::ExitCode};

use clap::{ArgMatches, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use observer::{cli::Cli, failure::Failure, given::Invocation, log, verbs::execute};

fn main() -> ExitCode {
    // A file that may not grow is an error of the write, not the end of the daemon.
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    match parse().and_then(|(cli, matches)| execute(cli, &matches)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            log::line(&format!("observer: {}", failure.line()));
            ExitCode::from(failure.code())
        }
    }
}

fn parse() -> Result<(Cli, ArgMatches), Failure> {
    let parsed = Cli::parsed(env::args_os());
    if let Err(error) = &parsed
        && matches!(
            error.kind(),
            ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        )
    {
        error.exit();
    }
    let invocation = Invocation::current();
    if let Some(name) = invocation.empty_variable() {
        return Err(Failure::usage(format!(
            "the variable {name} is empty: unset it, or give it a value"
        )));
    }
    parsed.map_err(|error| {
        Failure::usage(format!("{} (see `observer --help`)", invocation.described(&error)))
    })
}
