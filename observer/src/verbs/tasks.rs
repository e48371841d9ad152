//! `observer tasks`: the tasks of this host, from a running daemon or else from the identity
//! sources.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use super::print::print;
use crate::{
    app::{
        options::watch_options,
        runtime::{async_runtime, unwatchable},
    },
    config::Config,
    failure::Failure,
    tasks::{Attribute, Board, Observed, Report, Source, SourceObserver, Watch, WatchUpdate},
    telemetry,
};

/// Time for the sources to answer. Sources without an answer by then are shown as not answering.
const PATIENCE: Duration = Duration::from_secs(4);
/// Time for further queries that the last answer causes.
const SETTLE: Duration = Duration::from_secs(1);

/// Prints the report.
pub(super) fn show_tasks(config: &Config, json: bool, no_daemon: bool) -> Result<(), Failure> {
    let runtime = async_runtime()?;
    let daemon = if no_daemon {
        None
    } else {
        runtime.block_on(telemetry::fetch_tasks(reachable(config.settings.host.listen.get())))
    };
    let report = match daemon {
        Some(report) => report,
        None => query_sources(config, &runtime)?.0,
    };
    runtime.shutdown_background();
    let text = if json {
        let text = serde_json::to_string_pretty(&report);
        text.map_err(|error| Failure::during("writing JSON", error))? + "\n"
    } else {
        report.to_string()
    };
    print(&text)
}

/// Address at which a daemon that listens on this address can be reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, listen.port())
}

/// Interfaces that a daemon would observe.
pub(super) fn observed(config: &Config) -> Result<Vec<Observed>, Failure> {
    let runtime = async_runtime()?;
    let (_, observed) = query_sources(config, &runtime)?;
    runtime.shutdown_background();
    Ok(observed)
}

/// Queries the sources.
fn query_sources(config: &Config, runtime: &Runtime) -> Result<(Report, Vec<Observed>), Failure> {
    let board = Arc::new(Board::default());
    let (out, received) = channel();
    let receive = move |update| {
        if let WatchUpdate::Interfaces(interfaces) = update {
            let _ = out.send(interfaces);
        }
    };
    let options = watch_options(config)?;
    let observer: Arc<dyn SourceObserver> = Arc::new(NoObserver);
    let watch = Watch::start(options, runtime.handle(), &observer, Arc::clone(&board), receive)
        .map_err(|error| unwatchable(&error))?;
    let start = Instant::now();
    while start.elapsed() < PATIENCE && !board.is_settled() {
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(SETTLE);
    let report = board.report();
    drop(watch);
    Ok((report, received.try_iter().last().map_or_else(Vec::new, |interfaces| interfaces.present)))
}

/// Ignores all events of the sources.
#[derive(Debug)]
struct NoObserver;

impl SourceObserver for NoObserver {
    fn asked(&self, _: Source, _: bool) {}
    fn up(&self, _: Source, _: bool) {}
    fn conflict(&self, _: Source, _: Attribute) {}
}
