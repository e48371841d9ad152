//! `demo`: the daemon at work on this host, in front of stand-ins for two ECS tasks. Owns the order of the acts.
//!
//! ```text
//! place (private mounts) ─▶ network (namespaces) ─▶ daemon ─▶ traffic ─▶ output (its files) ─▶ report
//! ```
//!
//! Everything that it makes belongs to its own process: whatever way that ends, the kernel takes the rest with it.

mod cast;
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
mod traffic;

use std::{
    env,
    fmt::Display,
    fs,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, anyhow};

use self::{
    daemon::Daemon, network::Network, output::Output, page::Page, place::Place, report::Report,
    signals::Signals,
};
use crate::{paths::Paths, process};

/// Seconds over which the daemon sums flows.
const WINDOW: u32 = 5;
/// The traffic takes less than this, so that a window that has as much left takes all of it.
const TRAFFIC: Duration = Duration::from_millis(1500);
/// How long any act may take on a busy machine before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// With the daemon built at this path, show it: the part that needs root
    #[arg(long, value_name = "DAEMON", hide = true)]
    pub(crate) as_root: Option<PathBuf>,
}

/// Called with the daemon built and `ip` at hand.
pub(crate) fn run(paths: &Paths) -> Result<()> {
    let this = env::current_exe().context("where this program lies")?;
    let mut command = process::as_root(&this, &[])?;
    command.args(["demo", "--as-root"]).arg(paths.daemon());
    // In our place, so that signals and the exit code are its own.
    Err(command.exec()).context("the demo could not be started as root")
}

/// The part that needs root; builds have stayed with the user.
pub(crate) fn as_root(daemon: &Path) -> Result<()> {
    let began = Instant::now();
    let signals = Signals::block()?;
    // Whatever `show` made is gone when it returns.
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
        signals.until("the next window begins", PATIENCE, || Ok((Instant::now() >= next).then_some(())))?;
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

/// Waits for a thread without being deaf to signals.
fn finished(thread: JoinHandle<Result<()>>, signals: &Signals) -> Result<()> {
    signals.until("the traffic is over", PATIENCE, || Ok(thread.is_finished().then_some(())))?;
    thread.join().map_err(|_| anyhow!("a traffic generator panicked"))?.context("driving traffic")
}

fn step(what: &str) -> Result<()> {
    say(format_args!("==> {what} …"))
}

/// An error where nobody reads any more, so that everything is removed in good order.
fn say(text: impl Display) -> Result<()> {
    writeln!(io::stdout(), "{text}").context("standard output is closed")
}
