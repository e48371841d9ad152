//! The `observer` command.

use std::{io, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use observer::{
    app::{self, Failure},
    cli::{CheckArgs, Cli, Command, LogLevel, ReplayArgs},
    config::Config,
    replay,
    schema::Layout,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
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
            eprintln!("observer: {line}");
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
            log_to_stderr(config.log_level);
            app::run(&config)
        }
        Command::Replay(args) => {
            let ReplayArgs { file, local, local_mac, mtu, tasks_file, json, records } = *args;
            let config = Config::for_replay(records, tasks_file)?;
            log_to_stderr(LogLevel::Warn);
            replay::run(&replay::Options { file, local, local_mac, mtu, json }, &config)
        }
        Command::Check(args) => {
            let CheckArgs { json, run } = *args;
            app::check(&Config::new(run)?, json)
        }
        Command::Schema(args) => {
            let config = Config::new(args.run)?;
            print!("{}", Layout::of(&config)?.print(args.reader)?);
            Ok(())
        }
        Command::Tasks(args) => {
            let config = Config::new(args.run)?;
            log_to_stderr(config.log_level);
            app::show_tasks(&config, args.json, args.no_daemon)
        }
        Command::Config(args) => {
            print!("{}", Config::new(*args)?.to_toml());
            Ok(())
        }
    }
}

fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Of each load of programs the loader says hundreds of lines at debug, among which ours would not be found. The
    // programs speak as `observer_ebpf`.
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::INFO) };
    let targets = Targets::new().with_default(libraries).with_target("observer", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(false)
        // It would say so on standard error, and panic where that cannot be written.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(targets).with(lines).init();
}
