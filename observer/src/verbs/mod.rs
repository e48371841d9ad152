//! The verbs of the command line.
//!
//! Owns: the execution of one call of `observer`. In: parsed arguments. Out: text on standard
//! output, or a [`Failure`].

mod check;
mod detach;
mod print;
mod tasks;

use std::path::Path;

use clap::ArgMatches;
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::{
    app,
    cli::{CheckArgs, Cli, Command, ReplayArgs, RunArgs},
    config::{Config, ConfigError, OutputConfig, Outputs},
    failure::Failure,
    given::Invocation,
    log::{self, LogLevel},
    replay,
    schema::Layout,
    sink::Output,
};

/// Executes a call. `matches` are those of its verb.
pub fn execute(cli: Cli, matches: &ArgMatches) -> Result<(), Failure> {
    match cli.command {
        Command::Run(args) => {
            let config = configured(*args, matches)?;
            log::start(config.settings.host.log_level);
            app::run(&config)
        }
        Command::Replay(args) => replay(*args),
        Command::Check(args) => {
            let CheckArgs { json, run } = *args;
            check::check(&configured(run, matches)?, json)
        }
        Command::Schema(args) => {
            let config = configured(args.run, matches)?;
            print::print(&Layout::of(&config)?.print(args.reader)?)
        }
        Command::Tasks(args) => {
            let config = configured(args.run, matches)?;
            log::start(config.settings.host.log_level);
            tasks::show_tasks(&config, args.json, args.no_daemon)
        }
        Command::Detach(args) => {
            let config = configured(*args, matches)?;
            log::start(config.settings.host.log_level);
            detach::detach(&config)
        }
        Command::Config(args) => {
            let text = configured(*args, matches)?.to_toml();
            print::print(&text.map_err(|error| refused(&error, None))?)
        }
    }
}

fn replay(args: ReplayArgs) -> Result<(), Failure> {
    let ReplayArgs { file, local, local_mac, mtu, tasks_file, json, output_dir, output, records } =
        args;
    let output = Outputs::of_replay(output_dir.as_deref(), &output)
        .and_then(|outputs| OutputConfig::new(records, outputs))
        .map_err(|error| refused(&error, None))?;
    if output.outputs.formats == [Output::Stdout] {
        restore_sigpipe();
    }
    log::start(LogLevel::Warn);
    replay::run(&replay::Options { file, local, local_mac, mtu, tasks_file, json, output })
}

/// Configuration of a verb that takes the flags of `run`.
fn configured(args: RunArgs, matches: &ArgMatches) -> Result<Config, Failure> {
    let RunArgs { config: file, settings } = args;
    Config::new(settings, matches, file.as_deref())
        .map_err(|error| refused(&error, file.as_deref()))
}

/// Failure of an invalid setting. It names the place where the setting was given.
fn refused(error: &ConfigError, file: Option<&Path>) -> Failure {
    let given = error.flag().map(|flag| Invocation::current().given(flag, file).to_string());
    Failure::usage(format!("{error}{}", given.unwrap_or_default()))
}

/// Lets SIGPIPE end a replay that only prints, so that it ends with its reader, such as `head`. In
/// the daemon, a reader that ends is an error of one output.
fn restore_sigpipe() {
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
