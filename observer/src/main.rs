//! The `observer` command.

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use observer::{
    app::{self, Failure},
    cli::{CheckArgs, Cli, Command, LogLevel, ReplayArgs},
    config::Config,
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
    Cli::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => error.exit(),
        _ => {
            let text = error.to_string();
            let said = text.lines().map(str::trim).filter(|line| {
                !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
            });
            let line = said.collect::<Vec<_>>().join("; ");
            Failure::Usage(format!("{} (see `observer --help`)", line.trim_start_matches("error: ")))
        }
    })
}

fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Run(args) => {
            let config = Config::new(*args)?;
            log::start(config.log_level);
            app::run(&config)
        }
        Command::Replay(args) => {
            let ReplayArgs { file, local, local_mac, mtu, tasks_file, json, records } = *args;
            let config = Config::for_replay(records, tasks_file)?;
            if config.output.outputs == [Output::Stdout] {
                end_with_the_reader();
            }
            log::start(LogLevel::Warn);
            replay::run(&replay::Options { file, local, local_mac, mtu, json }, &config)
        }
        Command::Check(args) => {
            let CheckArgs { json, run } = *args;
            app::check(&Config::new(run)?, json)
        }
        Command::Schema(args) => {
            let config = Config::new(args.run)?;
            app::print(&Layout::of(&config)?.print(args.reader)?)
        }
        Command::Tasks(args) => {
            let config = Config::new(args.run)?;
            log::start(config.log_level);
            app::show_tasks(&config, args.json, args.no_daemon)
        }
        Command::Config(args) => app::print(&Config::new(*args)?.to_toml()),
    }
}

/// A replay that only prints ends when its reader does, as `head` expects of every command in front of it. The daemon goes
/// on: there it is an error of one output.
fn end_with_the_reader() {
    // SAFETY: no handler is installed.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
