//! The `observer` command.

use std::{io, path::Path, process::ExitCode};

use clap::{Parser, error::ErrorKind};
use nix::sys::signal::{SigHandler, Signal, signal};
use observer::{
    app::{self, Failure},
    cli::{CheckArgs, Cli, Command, LogLevel, ReplayArgs, RunArgs},
    config::{Config, ConfigError},
    given::Invocation,
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
    parsed.map_err(|error| {
        Failure::Usage(format!("{} (see `observer --help`)", invocation.described(&error)))
    })
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
            log_to_stderr(config.log_level);
            app::run(&config)
        }
        Command::Replay(args) => {
            let ReplayArgs { file, local, local_mac, mtu, tasks_file, json, records } = *args;
            let config =
                Config::for_replay(records, tasks_file).map_err(|error| refused(&error, None))?;
            log_to_stderr(LogLevel::Warn);
            replay::run(&replay::Options { file, local, local_mac, mtu, json }, &config)
        }
        Command::Check(args) => {
            let CheckArgs { json, run } = *args;
            app::check(&configured(run)?, json)
        }
        Command::Schema(args) => {
            let config = configured(args.run)?;
            print!("{}", Layout::of(&config)?.print(args.reader)?);
            Ok(())
        }
        Command::Tasks(args) => {
            let config = configured(args.run)?;
            log_to_stderr(config.log_level);
            app::show_tasks(&config, args.json, args.no_daemon)
        }
        Command::Config(args) => {
            print!("{}", configured(*args)?.to_toml());
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
