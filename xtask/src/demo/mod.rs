//! `demo`: the daemon at work on this host, observing stand-ins for two ECS tasks. Owns the order
//! of the steps.
//!
//! ```text
//! place (private mounts) ─▶ network (namespaces) ─▶ daemon ─▶ traffic ─▶ output (its files) ─▶ report
//! ```
//!
//! Everything that the demo makes belongs to its own process, so that the kernel removes it however
//! that process ends.

mod cast;
mod console;
mod daemon;
mod describe_tasks;
mod namespace;
mod network;
mod output;
mod page;
mod place;
mod promises;
mod report;
mod rows;
mod signals;
mod table;
mod timing;
mod traffic;

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow};

use self::{
    console::{say, step},
    daemon::Daemon,
    network::Network,
    output::Output,
    page::Page,
    place::Place,
    report::Report,
    signals::Signals,
    timing::{PATIENCE, TRAFFIC, WINDOW},
};
use crate::{paths::Paths, process};

const STAGE: &str = "\
Two stand-ins for ECS tasks in awsvpc mode, each in a network namespace of its own:

  ┌─ task web ─────────────┐                    ┌─ task api ─────────────┐
  │               ecs-eth0 ├───── ECS agent ────┤ ecs-eth0               │  not observed
  │  10.20.1.11            │                    │            10.20.1.12  │
  │  fd20::11         eth0 ├─────────┬──────────┤ eth0         fd20::12  │  eth0 is the ENI: observed
  └────────────────────────┘         │          └────────────────────────┘
                       outside host 10.20.1.1, fd20::1
";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Path of a built daemon; runs the part of the demo that needs root
    #[arg(long, value_name = "DAEMON", hide = true)]
    pub(crate) as_root: Option<PathBuf>,
}

/// Restarts this program as root. The daemon must be built and `ip` installed.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    let this = env::current_exe().context("where this program lies")?;
    let mut command = process::as_root(&this, &[])?;
    command.args(["demo", "--as-root"]).arg(paths.daemon());
    // Replaces this process, so that signals and the exit code are its own.
    Err(command.exec()).context("the demo could not be started as root")
}

/// The part that needs root. The user's own account has done the builds.
pub(crate) fn as_root(daemon: &Path) -> Result<()> {
    let began = Instant::now();
    let signals = Signals::block()?;
    // Everything that `show` made is removed when it returns.
    let shown = show(daemon, &signals);
    if signals.caught() {
        eprintln!("stopped; nothing is left behind");
        signals.die();
    }
    shown?;
    say(format_args!(
        "All of it is gone again: namespaces, programs, mounts, files. This took {:.0} s.\n\n\
         Next: `cargo xtask run` observes this host and its containers; README.md tells what there is to set.",
        began.elapsed().as_secs_f64()
    ))
}

fn show(program: &Path, signals: &Signals) -> Result<()> {
    say(format_args!("\n{STAGE}"))?;
    step("making the network namespaces and their links")?;
    let place = Place::make()?;
    let network = Network::build(&place)?;
    signals.until("the addresses can be used", PATIENCE, || Ok(network.is_up()?.then_some(())))?;
    let tasks_file = place.path("describe-tasks.json");
    fs::write(&tasks_file, describe_tasks::json().to_string())?;

    step("starting the daemon")?;
    let mut daemon = Daemon::start(program, &place, &tasks_file)?;
    say(format_args!("    {}", daemon.command()))?;
    signals.until("the daemon observes both tasks", PATIENCE, || {
        let page = daemon.ready_page()?;
        Ok(page.filter(|page| page.attached() == cast::TASKS.len() as u64))
    })?;
    say(format_args!("    both interfaces are observed; metrics at {}", daemon.metrics_url()))?;

    let page = observe(&daemon, &network, signals)?;

    step("stopping the daemon and reading its files")?;
    daemon.stop(signals)?;
    let output = Output::read(&place.path(daemon::RECORDS))?;
    Report { output: &output, page: &page, url: &daemon.metrics_url() }.print()
}

/// Drives the traffic and returns the metrics page after the window that counted it was closed.
fn observe(daemon: &Daemon, network: &Network, signals: &Signals) -> Result<Page> {
    let left = left_in_window();
    if left < TRAFFIC {
        let next = Instant::now() + left;
        signals.until("the next window begins", PATIENCE, || {
            Ok((Instant::now() >= next).then_some(()))
        })?;
    }
    let windows = daemon.page()?.windows();
    step("driving traffic over IPv4 and IPv6")?;
    for line in traffic::SUMMARY {
        say(format_args!("    {line}"))?;
    }
    finished(traffic::start(network), signals)?;

    step(&format!("waiting for the window of {WINDOW} s to close"))?;
    signals.until("the window closes", PATIENCE, || {
        let page = daemon.page()?;
        Ok((page.windows() > windows && page.records() > 0).then_some(page))
    })
}

/// Windows begin at multiples of their length since the epoch.
fn left_in_window() -> Duration {
    let window = u128::from(WINDOW) * 1000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Duration::from_millis((window - now % window) as u64)
}

/// Waits for a thread, and stops waiting when a signal comes.
fn finished(thread: JoinHandle<Result<()>>, signals: &Signals) -> Result<()> {
    signals.until("the traffic is over", PATIENCE, || Ok(thread.is_finished().then_some(())))?;
    thread.join().map_err(|_| anyhow!("a traffic generator panicked"))?.context("driving traffic")
}
