//! What survives the daemon: the journal, and the maps of an earlier run.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    accounts::{Accounts, Kept, Standing},
    flow::Delta,
    journal::{Journal, JournalOptions, Left, Progress},
    kernel::{Drain, Earlier, OnStop, Position, bpffs::PinDirectory, run_id},
    record::{Batch, Mark},
    sink::Sinks,
    worker::Deadline,
};

/// Directory of the journal in the state directory.
const DIRECTORY: &str = "journal";
/// Time for removing the journal at the end.
const GRACE: Duration = Duration::from_millis(500);
/// Ticks that read the maps of an earlier run after its programs are gone: one for each half.
const LAST_READS: u8 = 2;

/// State that earlier runs have left behind.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) left: Left,
    earlier: Vec<Earlier>,
    run: u64,
    directory: PathBuf,
}

impl Found {
    /// Reads the journal, and opens the maps of earlier runs.
    pub(super) fn find(pins: &PinDirectory, state_dir: &Path) -> Self {
        let directory = state_dir.join(DIRECTORY);
        let left = Left::read(&directory);
        let earlier = Earlier::open_all(pins, |run| left.positions.get(&run).copied());
        Self { left, earlier, run: run_id(pins.path()).unwrap_or_default(), directory }
    }

    /// Continues the accounts of the earlier run, and starts the journal of this one.
    pub(super) fn restore(
        self,
        accounts: &mut Accounts,
        drain: &mut Drain,
        sinks: &Sinks,
        options: SavedOptions,
    ) -> std::io::Result<Saved> {
        let Self { mut left, mut earlier, run, directory } = self;
        let known: BTreeSet<_> = left.open.interfaces.iter().map(|it| it.number).collect();
        let opened: BTreeSet<_> = earlier.iter().map(Earlier::id).collect();
        let all = left.positions.keys().all(|run| opened.contains(run));
        for run in &mut earlier {
            run.count_for(known.clone());
        }
        if !left.open.interfaces.is_empty() {
            let interfaces = left.open.interfaces.len();
            tracing::info!(
                interfaces,
                flows = left.open.flows.len(),
                windows = left.closed.len(),
                "continuing where an earlier run has ended"
            );
        }
        drain.read_earlier(earlier);
        if !all {
            // Their ledgers are gone with the maps: the host was restarted, or the pins removed.
            for standing in &mut left.open.interfaces {
                standing.accounted = drain.ledger(standing.number);
            }
        }
        accounts.start_numbers(|number| drain.ledger(number));
        accounts.restore(left.open);
        let positions = positions(run, drain);
        let standings = standings(accounts, drain);
        let progress = Progress { positions: &positions, accounts: Some(&standings) };
        let (window, flows) = accounts.in_window();
        let options_of_journal = JournalOptions { directory, limit: options.limit };
        let journal = Journal::start(options_of_journal, left.sequence, window, flows, progress)?;
        for (sequence, batch) in left.closed {
            let mark = Some(journal.mark_earlier(sequence));
            sinks.offer(Batch { mark, ..batch });
        }
        let is_earlier = drain.earlier().next().is_some();
        Ok(Saved { journal, run, on_stop: options.on_stop, ends_earlier: None, is_earlier })
    }
}

/// Options of [`Saved`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SavedOptions {
    /// Largest size of the journal in bytes.
    pub(super) limit: usize,
    pub(super) on_stop: OnStop,
}

/// The journal, and the end of earlier runs.
#[derive(Debug)]
pub(super) struct Saved {
    journal: Journal,
    run: u64,
    on_stop: OnStop,
    /// True while the maps of an earlier run are read.
    is_earlier: bool,
    /// Number of further reads of these maps; `None` while their programs may still count.
    ends_earlier: Option<u8>,
}

impl Saved {
    /// Adds a count that has become part of a window.
    pub(super) fn add(&mut self, delta: &Delta, kept: Kept) {
        self.journal.add(delta, kept);
    }

    /// The programs of earlier runs are gone.
    pub(super) fn taken_over(&mut self) {
        self.ends_earlier = Some(LAST_READS);
    }

    /// Writes the counts since the last transaction, and clears the kernel's copy. For the spill
    /// ring, between two ticks.
    pub(super) fn commit_ring(&mut self, drain: &mut Drain) {
        let positions = positions(self.run, drain);
        let progress = Progress { positions: &positions, accounts: None };
        // A full file is rewritten at the next tick.
        let _ = self.journal.commit(progress);
        drain.clear();
    }

    /// Writes the state of all accounts, so that the next run knows the interface of each count.
    pub(super) fn commit_accounts(&mut self, accounts: &mut Accounts, drain: &Drain) {
        let positions = positions(self.run, drain);
        let standings = standings(accounts, drain);
        // A full file is rewritten at the next tick.
        let _ =
            self.journal.commit(Progress { positions: &positions, accounts: Some(&standings) });
    }

    /// Writes the counts of a tick and the state of all accounts, and clears the kernel's copy.
    pub(super) fn commit(&mut self, accounts: &mut Accounts, drain: &mut Drain) {
        let mut ended = None;
        if self.is_earlier && let Some(reads) = self.ends_earlier.as_mut() {
            *reads = reads.saturating_sub(1);
            if *reads == 0 {
                self.is_earlier = false;
                ended = Some(drain.end_earlier());
            }
        }
        let positions = positions(self.run, drain);
        let standings = standings(accounts, drain);
        let progress = Progress { positions: &positions, accounts: Some(&standings) };
        if !self.journal.commit(progress) {
            let (window, flows) = accounts.in_window();
            self.journal.rewrite(window, flows, progress);
        }
        drain.clear();
        // Only now: until the transaction was written, it referred to the maps.
        if let Some(ended) = ended {
            ended.remove();
        }
    }

    /// Mark for the open window.
    pub(super) fn mark(&self, other: Mark) -> Mark {
        self.journal.mark(other)
    }

    /// Begins the next window.
    pub(super) fn rotate(&mut self, accounts: &mut Accounts, drain: &Drain) {
        let positions = positions(self.run, drain);
        let standings = standings(accounts, drain);
        let progress = Progress { positions: &positions, accounts: Some(&standings) };
        let (window, _) = accounts.in_window();
        self.journal.rotate(window, progress);
    }

    /// Ends the journal.
    pub(super) fn finish(self, deadline: &Deadline) {
        self.journal.finish(self.on_stop == OnStop::Keep, &deadline.later(GRACE));
    }
}

fn positions(run: u64, drain: &Drain) -> Vec<(u64, Position)> {
    [(run, drain.position())].into_iter().chain(drain.earlier()).collect()
}

/// State of the accounts. Its ledgers are those of the maps that the next run will find.
fn standings(accounts: &mut Accounts, drain: &Drain) -> Vec<Standing> {
    let mut standings = accounts.standings();
    for Standing { number, accounted, .. } in &mut standings {
        let carried = drain.carried(*number);
        *accounted = [accounted[0].since(&carried[0]), accounted[1].since(&carried[1])];
    }
    standings
}
