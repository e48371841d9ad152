//! `cargo xtask`: the list of verbs for building, running and testing this repository.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod apt;
mod bench;
mod bpf;
mod build;
mod control_flow;
mod demo;
mod doctor;
mod elf;
mod fmt;
mod host;
mod kernels;
mod linker;
mod lint;
mod lock;
mod object;
mod paths;
mod process;
mod progress;
mod readers;
mod run;
mod setup;
mod shared;
mod skips;
mod stages;
mod targets;
mod test;
mod toolchain;
mod tools;
mod walls;

use paths::Paths;

#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    about = "Everything that is done with this repository",
    version
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install missing tools of the demo and the tests; `--only bpf`: the compiler and linker of
    /// the eBPF programs
    Setup(setup::Args),
    /// Show installed and missing tools, with the command that installs each
    Doctor,
    /// Build the daemon, and the eBPF objects if their sources have changed
    Build(build::Args),
    /// Build, then start the daemon (as root) with these arguments
    Run(run::Args),
    /// Build, then demonstrate the daemon on this host
    Demo(demo::Args),
    /// Check formatting, clippy, unfinished code, and that the eBPF objects match their sources
    Lint,
    /// Build, then run the tests; those that need root run through sudo
    Test(test::Args),
    /// Build, then run a benchmark (as root)
    Bench(bench::Args),
    /// Format all Rust files
    Fmt,
}

fn main() -> ExitCode {
    match run(Cli::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    // Behind sudo there may be no cargo that finds the workspace.
    if let Verb::Demo(demo::Args { as_root: Some(daemon) }) = &verb {
        return demo::as_root(daemon);
    }
    let paths = Paths::find()?;
    match verb {
        Verb::Setup(args) => setup::run(&paths, &args),
        Verb::Doctor => doctor::run(&paths),
        Verb::Build(args) => build::run(&paths, &args),
        Verb::Run(args) => run::run(&paths, args),
        Verb::Demo(_) => {
            progress::plan(setup::steps_of_system(&[tools::Use::Demo]) + build::steps(&paths)?);
            setup::system(&[tools::Use::Demo])?;
            build::all(&paths)?;
            demo::run(&paths)
        }
        Verb::Lint => lint::run(&paths),
        Verb::Test(args) => test::run(&paths, &args),
        Verb::Bench(args) => bench::run(&paths, &args),
        Verb::Fmt => fmt::run(&paths),
    }
}
