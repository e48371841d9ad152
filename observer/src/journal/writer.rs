use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use super::{
    format::{self, AccountState, Header},
    subject::InterfaceEntry,
};
use crate::{
    accounts::{Kept, Standing},
    flow::{Delta, InterfaceNumber, Table, Window},
    kernel::Position,
    linux::access::Access,
    log::Logged,
    record::{Mark, Subject},
    worker::{Deadline, Worker},
};

/// Options of the journal.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Directory of its files.
    pub directory: PathBuf,
    /// Largest size of a file in bytes. Flows beyond it are not protected.
    pub limit: usize,
    /// Number of the open window: that of the earlier run.
    pub sequence: u64,
    /// Interfaces whose records of the previous window the earlier run has held.
    pub held: BTreeSet<InterfaceNumber>,
}

/// Progress of the daemon, as a transaction states it.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Position of each run whose maps are read, with the run's ID.
    pub positions: &'a [(u64, Position)],
    /// Accounts of all interfaces; `None` between two ticks.
    pub accounts: Option<&'a [Standing]>,
}

/// Longest wait for the disk in one tick. A daemon that is killed while the disk hangs loses what it
/// has drained meanwhile, by number.
const PATIENCE: Duration = Duration::from_millis(200);

/// Writer of the journal.
#[derive(Debug)]
pub struct Journal {
    limit: usize,
    sequence: u64,
    /// Size of the current file in bytes.
    size: usize,
    /// True if the flows of the open window are too many for the journal.
    suspended: bool,
    /// Encoded counts since the last transaction, and those of them in the next window.
    counts: Vec<u8>,
    next_counts: Vec<u8>,
    /// Interfaces whose records of the previous window are held.
    held: BTreeSet<InterfaceNumber>,
    /// Subjects in the current file.
    known: BTreeMap<InterfaceNumber, Arc<Subject>>,
    jobs: Sender<Job>,
    answers: Receiver<io::Result<()>>,
    /// Jobs without an answer.
    waiting: usize,
    failing: Logged<io::ErrorKind>,
    thread: Worker<()>,
}

/// A job of the thread.
#[derive(Debug)]
enum Job {
    /// Appends to the current file.
    Append(Vec<u8>),
    /// Creates or replaces the file of this number, which is the current one from now on.
    Replace(u64, Vec<u8>),
    /// Removes the file of this number: its window is written.
    Remove(u64),
    /// Ends the thread.
    End,
}

impl Journal {
    /// Starts the thread, and the file of the open window.
    pub fn start(
        options: JournalOptions,
        window: Window,
        flows: &Table,
        progress: Progress<'_>,
    ) -> io::Result<Self> {
        let JournalOptions { directory, limit, sequence, held } = options;
        Access::PRIVATE.create_folder(&directory)?;
        let ((jobs, queue), (answer, answers)) = (channel(), channel());
        let thread = Worker::spawn("journal", move || write(&queue, &answer, &directory))?;
        let mut journal = Self {
            limit,
            sequence,
            size: 0,
            suspended: false,
            counts: Vec::new(),
            next_counts: Vec::new(),
            held,
            known: BTreeMap::new(),
            jobs,
            answers,
            waiting: 0,
            failing: Logged::default(),
            thread,
        };
        journal.rewrite(window, flows, progress);
        Ok(journal)
    }

    /// Adds a count that has become part of a window.
    pub fn add(&mut self, delta: &Delta, kept: Kept) {
        if kept == Kept::Not || self.suspended && kept == Kept::Open {
            return;
        }
        format::push_delta(&mut self.counts, delta, kept);
        if kept == Kept::Next {
            format::push_delta(&mut self.next_counts, delta, Kept::Open);
        }
    }

    /// Writes a transaction: the counts since the last one. Afterwards the kernel's copy may be
    /// cleared. Returns false if the file is full; then call [`rewrite`](Self::rewrite).
    pub fn commit(&mut self, progress: Progress<'_>) -> bool {
        let mut bytes = Vec::with_capacity(self.counts.len() + 4096);
        self.push_interfaces(&mut bytes, progress.accounts.unwrap_or_default());
        push_transaction(&mut bytes, &self.counts, progress);
        self.counts.clear();
        self.size += bytes.len();
        self.run(Job::Append(bytes));
        self.size <= self.limit
    }

    /// Replaces the file by one that holds each flow of the open window once. If that is still too
    /// large, the flows of this window are left out.
    pub fn rewrite(&mut self, window: Window, flows: &Table, progress: Progress<'_>) {
        let mut counts = Vec::new();
        for flow in flows.flows() {
            format::push_delta(&mut counts, flow, Kept::Open);
            // Half, so that the next rewriting is not due at once.
            if counts.len() > self.limit / 2 {
                tracing::warn!(
                    limit = self.limit,
                    "the flows of this window exceed the journal: a daemon that is killed now loses them"
                );
                self.suspended = true;
                counts.clear();
                break;
            }
        }
        self.replace(window, &counts, progress);
    }

    /// Begins the file of the next window. The file of the previous one is removed when its
    /// [`mark`](Self::mark) is dropped. `held` are the interfaces whose records of the previous
    /// window are in a batch of their own.
    pub fn rotate(
        &mut self,
        window: Window,
        held: BTreeSet<InterfaceNumber>,
        progress: Progress<'_>,
    ) {
        self.sequence += 1;
        self.held = held;
        self.suspended = false;
        let counts = std::mem::take(&mut self.next_counts);
        self.replace(window, &counts, progress);
    }

    /// Number of the open window.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// A mark for the open window, which also signals `other`.
    pub fn mark(&self, other: Mark) -> Mark {
        let (jobs, sequence) = (self.jobs.clone(), self.sequence);
        Mark::new(move || {
            let _other = &other;
            drop(jobs.send(Job::Remove(sequence)));
        })
    }

    /// A mark for a window of an earlier run.
    pub fn mark_earlier(&self, sequence: u64) -> Mark {
        let jobs = self.jobs.clone();
        Mark::new(move || drop(jobs.send(Job::Remove(sequence))))
    }

    /// Ends the journal. Without `keep`, the file of the open window is removed too.
    pub fn finish(self, keep: bool, deadline: &Deadline) {
        if !keep {
            let _ = self.jobs.send(Job::Remove(self.sequence));
        }
        let _ = self.jobs.send(Job::End);
        if let Err(error) = self.thread.join(deadline) {
            tracing::warn!(%error, "the journal is not complete: the next start may report losses");
        }
    }

    fn replace(&mut self, window: Window, counts: &[u8], progress: Progress<'_>) {
        let mut bytes = Vec::with_capacity(counts.len() + 4096);
        // The header consists of numbers, which are always valid JSON.
        let header = serde_json::to_vec(&Header::new(window, &self.held)).unwrap_or_default();
        format::frame(&mut bytes, format::HEADER, |out| out.extend(header));
        self.known.clear();
        self.push_interfaces(&mut bytes, progress.accounts.unwrap_or_default());
        push_transaction(&mut bytes, counts, progress);
        self.size = bytes.len();
        self.run(Job::Replace(self.sequence, bytes));
    }

    /// Appends the interfaces that are new or renamed.
    fn push_interfaces(&mut self, out: &mut Vec<u8>, accounts: &[Standing]) {
        for Standing { number, key, named, .. } in accounts {
            let known = self.known.get(number);
            if known.is_some_and(|known| Arc::ptr_eq(known, &named.subject)) {
                continue;
            }
            let entry = InterfaceEntry::new(*number, *key, named);
            // Strings and numbers, which are always valid JSON.
            let entry = serde_json::to_vec(&entry).unwrap_or_default();
            format::frame(out, format::INTERFACE, |out| out.extend(entry));
            self.known.insert(*number, Arc::clone(&named.subject));
        }
    }

    /// Gives a job to the thread, and waits for it unless the disk hangs.
    fn run(&mut self, job: Job) {
        if self.jobs.send(job).is_err() {
            return;
        }
        self.waiting += 1;
        while self.waiting > 0 {
            // Once it has hung, it is asked without waiting.
            let patience = if self.waiting > 1 { Duration::ZERO } else { PATIENCE };
            match self.answers.recv_timeout(patience) {
                Ok(answer) => {
                    self.waiting -= 1;
                    self.note(answer);
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.note(Err(io::ErrorKind::TimedOut.into()));
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn note(&mut self, answer: io::Result<()>) {
        match answer {
            Ok(()) => {
                self.failing.clear();
            }
            Err(error) if self.failing.is_new(error.kind()) => {
                tracing::warn!(
                    %error,
                    "the journal cannot be written: a daemon that is killed now loses the open window"
                );
            }
            Err(_) => {}
        }
    }
}

fn push_transaction(out: &mut Vec<u8>, counts: &[u8], progress: Progress<'_>) {
    let accounts: Option<Vec<_>> = progress.accounts.map(|accounts| {
        let state = |standing: &Standing| AccountState {
            number: standing.number,
            attached: standing.attached,
            retired: standing.retired,
            accounted: standing.accounted,
            unreported: standing.unreported,
            window: standing.window,
        };
        accounts.iter().map(state).collect()
    });
    format::frame(out, format::TRANSACTION, |out| {
        format::push_transaction(out, counts, progress.positions, accounts.as_deref());
    });
}

/// Path of the file of this number.
pub(super) fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.journal"))
}

fn write(jobs: &Receiver<Job>, answers: &Sender<io::Result<()>>, directory: &Path) {
    let mut current: Option<File> = None;
    for job in jobs {
        let answer = match job {
            Job::End => return,
            Job::Remove(sequence) => {
                // It may not exist, if the disk was full when it was to be created.
                let _ = fs::remove_file(path(directory, sequence));
                continue;
            }
            Job::Append(bytes) => match &mut current {
                Some(file) => file.write_all(&bytes),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            Job::Replace(sequence, bytes) => {
                current = None;
                replace(directory, sequence, &bytes).map(|file| current = Some(file))
            }
        };
        if answer.is_err() {
            // Nothing may follow a transaction that is not whole.
            current = None;
        }
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn replace(directory: &Path, sequence: u64, bytes: &[u8]) -> io::Result<File> {
    let path = path(directory, sequence);
    let new = path.with_extension("new");
    let mut file = Access::PRIVATE.rewrite_file(&new)?;
    file.write_all(bytes)?;
    fs::rename(&new, &path)?;
    Ok(file)
}
