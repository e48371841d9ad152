//! Resources that the daemon holds: descriptors, programs, threads and memory.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use observer_tests::{daemon::Daemon, poll};

/// Resources of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// Descriptors, except connections and record files.
    pub(super) descriptors: usize,
    pub(super) sockets: usize,
    pub(super) programs: usize,
    pub(super) links: usize,
    pub(super) threads: usize,
    pub(super) resident_kib: u64,
}

impl Held {
    fn read(daemon: &Daemon<'_>) -> Result<Self> {
        let process = format!("/proc/{}", daemon.pid());
        let leads = daemon.descriptors()?;
        let count = |what: &str| leads.iter().filter(|lead| lead.contains(what)).count();
        let status = fs::read_to_string(format!("{process}/status"))?;
        let number = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .with_context(|| name.to_owned())?;
            Ok(line
                .trim_start_matches(':')
                .split_whitespace()
                .next()
                .context("a number")?
                .parse()?)
        };
        Ok(Self {
            descriptors: leads.len() - count("socket:"),
            sockets: count("socket:"),
            programs: count("bpf-prog"),
            links: count("bpf_link") + count("bpf-link"),
            threads: number("Threads")? as usize,
            resident_kib: number("VmRSS")?,
        })
    }

    /// The minimum over time, once stable: a scan opens a folder for an instant, which is longer on
    /// a busy machine. A leak is always present.
    pub(super) fn at_rest(daemon: &Daemon<'_>) -> Result<Self> {
        const WATCHED: Duration = Duration::from_secs(3);
        let mut before = Self::least(daemon, WATCHED)?;
        poll::until("the daemon is at rest", poll::PATIENCE, || {
            let now = Self::least(daemon, WATCHED)?;
            let same = Self { resident_kib: before.resident_kib, ..now } == before;
            before = now;
            Ok(same.then_some(now))
        })
    }

    /// The minimum of each resource within this time.
    fn least(daemon: &Daemon<'_>, within: Duration) -> Result<Self> {
        let start = Instant::now();
        let mut least = Self::read(daemon)?;
        while start.elapsed() < within {
            thread::sleep(Duration::from_millis(20));
            let now = Self::read(daemon)?;
            least = Self {
                descriptors: least.descriptors.min(now.descriptors),
                sockets: least.sockets.min(now.sockets),
                programs: least.programs.min(now.programs),
                links: least.links.min(now.links),
                threads: least.threads.min(now.threads),
                resident_kib: now.resident_kib,
            };
        }
        Ok(least)
    }
}
