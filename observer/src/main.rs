//! The `observer` command.

use std::{path::Path, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use observer::{
    app::{self, Failure},
    cli::{CheckArgs, Cli, Command, LogLevel, ReplayArgs, RunArgs},
    config::{Config, ConfigError},
    given::Invocation,
    log, replay,
    schema::Layout,
    sink::Output,
};

fn main() -> ExitCode {
    // A file that may not grow is an error of the write, not the end of the daemon.
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    match parse().and_then(execute) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // One line, whatever an error further down has to say.
            let line = failure.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            log::line(&format!("observer: {line}"));
            ExitCode::from(failure.code())
        }
    }
}

fn parse() -> Result<Cli, Failure> {
    let parsed = Cli::try_parse();
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
        return Err(Failure::Usage(format!("the variable {name} is empty: unset it, or give it a value")));
    }
    parsed
        .map_err(|error| Failure::Usage(format!("{} (see `observer --help`)", invocation.described(&error))))
}

/// The configuration of a verb with the flags of `run`.
fn configured(args: RunArgs) -> Result<Config, Failure> {
    let file = args.config.clone();
    Config::new(args).map_err(|error| refused(&error, file.as_deref()))
}

/// Names the place where a wrong setting was given.
fn refused(error: &ConfigError, file: Option<&Path>) -> Failure {
    let given = error.flag().map(|flag| Invocation::current().given(flag, file).to_string());
    Failure::Usage(format!("{error}{}", given.unwrap_or_default()))
}

fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Run(args) => {
            let config = configured(*args)?;
            log::start(config.log_level);
            app::run(&config)
        }
        Command::Replay(args) => {
            let ReplayArgs { file, local, local_mac, mtu, tasks_file, json, records } = *args;
            let config = Config::for_replay(records, tasks_file).map_err(|error| refused(&error, None))?;
            if config.output.outputs == [Output::Stdout] {
                end_with_the_reader();
            }
            log::start(LogLevel::Warn);
            replay::run(&replay::Options { file, local, local_mac, mtu, json }, &config)
        }
        Command::Check(args) => {
            let CheckArgs { json, run } = *args;
            app::check(&configured(run)?, json)
        }
        Command::Schema(args) => {
            let config = configured(args.run)?;
            app::print(&Layout::of(&config)?.print(args.reader)?)
        }
        Command::Tasks(args) => {
            let config = configured(args.run)?;
            log::start(config.log_level);
            app::show_tasks(&config, args.json, args.no_daemon)
        }
        Command::Config(args) => app::print(&configured(*args)?.to_toml()),
    }
}

/// A replay that only prints ends when its reader does, as `head` expects of every command in front of it. The daemon goes
/// on: there it is an error of one output.
fn end_with_the_reader() {
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
