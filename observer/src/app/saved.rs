//! State that survives the daemon: the journal, and the maps of an earlier run.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    accounts::{Accounts, Kept, Standing},
    flow::{Delta, InterfaceNumber, Window},
    journal::{Journal, JournalOptions, Left, Progress},
    kernel::{Drain, Earlier, OnStop, Position, bpffs::PinDirectory, run_id},
    record::{Batch, Mark},
    sink::{Output, Progress as Written, Sinks},
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
    state_dir: PathBuf,
}

impl Found {
    /// Reads the journal, and opens the maps of earlier runs.
    pub(super) fn find(pins: &PinDirectory, state_dir: &Path) -> Self {
        let mut left = Left::read(&state_dir.join(DIRECTORY));
        let earlier = Earlier::open_all(pins, |run| left.positions.get(&run).copied());
        let opened: BTreeSet<_> = earlier.iter().map(Earlier::id).collect();
        if !left.positions.keys().all(|run| opened.contains(run)) {
            // The host was restarted, or the pins were removed: no program has counted since.
            left.interfaces.clear();
            for standing in &mut left.open.interfaces {
                standing.retired = true;
            }
        }
        let (run, state_dir) = (run_id(pins.path()).unwrap_or_default(), state_dir.to_path_buf());
        Self { left, earlier, run, state_dir }
    }

    /// Numbers of all accounts of the earlier run.
    pub(super) fn numbers(&self) -> BTreeSet<InterfaceNumber> {
        self.left.open.interfaces.iter().map(|standing| standing.number).collect()
    }

    /// The outputs that the earlier run has interrupted in a batch, with their progress.
    pub(super) fn interrupted(&self, outputs: &[Output]) -> Vec<(Output, Written)> {
        let ids = self.left.closed.iter().flat_map(|(_, batches)| batches).filter_map(|it| it.id);
        let ids: Vec<_> = ids.collect();
        let files = outputs.iter().filter(|output| output.ending().is_some());
        let progress = files.map(|output| (*output, Written::read(&self.state_dir, *output)));
        progress.filter(|(_, progress)| ids.iter().any(|id| !progress.has(*id))).collect()
    }

    /// Continues the accounts of the earlier run, and starts the journal of this one.
    pub(super) fn restore(
        self,
        accounts: &mut Accounts,
        drain: &mut Drain,
        sinks: &Sinks,
        options: SavedOptions,
    ) -> std::io::Result<Saved> {
        let Self { mut left, mut earlier, run, state_dir } = self;
        let opened: BTreeSet<_> = earlier.iter().map(Earlier::id).collect();
        let all = left.positions.keys().all(|run| opened.contains(run));
        for run in &mut earlier {
            run.count_for(left.open.interfaces.iter().map(|it| it.number));
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
        let bases = left.open.interfaces.iter().map(|it| (it.number, it.accounted));
        drain.read_earlier(earlier, bases.filter(|_| all).collect());
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
        let journal = JournalOptions {
            directory: state_dir.join(DIRECTORY),
            limit: options.limit,
            sequence: left.sequence,
            held: left.held,
        };
        let journal = Journal::start(journal, window, flows, progress)?;
        for (sequence, batches) in left.closed {
            let mark = journal.mark_earlier(sequence);
            for batch in batches {
                let has =
                    |output| batch.id.is_some_and(|id| Written::read(&state_dir, output).has(id));
                let outputs: Vec<_> = Output::ALL.into_iter().filter(|it| !has(*it)).collect();
                let batch = Batch { mark: Some(mark.clone()), ..batch };
                sinks.offer_to(batch, |output| outputs.contains(&output));
            }
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
        let _ = self.journal.commit(Progress { positions: &positions, accounts: Some(&standings) });
    }

    /// Writes the counts of a tick and the state of all accounts, and clears the kernel's copy.
    pub(super) fn commit(&mut self, accounts: &mut Accounts, drain: &mut Drain) {
        let mut ended = None;
        if self.is_earlier
            && let Some(reads) = self.ends_earlier.as_mut()
        {
            *reads = reads.saturating_sub(1);
            if *reads == 0 {
                self.is_earlier = false;
                let runs = drain.end_earlier();
                for (number, missing) in &runs.missing {
                    accounts.lose_with_earlier_run(*number, *missing);
                }
                ended = Some(runs);
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

    /// Number of the open window.
    pub(super) const fn sequence(&self) -> u64 {
        self.journal.sequence()
    }

    /// Begins the next window. The records of the closed one are held for the interfaces `held`.
    pub(super) fn rotate(
        &mut self,
        accounts: &mut Accounts,
        drain: &Drain,
        (window, held): (Window, BTreeSet<InterfaceNumber>),
    ) {
        let positions = positions(self.run, drain);
        let standings = standings(accounts, drain);
        let progress = Progress { positions: &positions, accounts: Some(&standings) };
        self.journal.rotate(window, held, progress);
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
