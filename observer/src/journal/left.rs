use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::Path,
};

use super::{
    format::{self, AccountState, Header, Transaction},
    subject::InterfaceEntry,
};
use crate::{
    accounts::{Restored, Standing},
    flow::{InterfaceNumber, Table, Traffic},
    kernel::Position,
    record::{Batch, BatchId},
};

/// The journal of an earlier run.
#[derive(Debug, Default)]
pub struct Left {
    /// Windows that are closed and not written by all outputs, with the numbers of their files. The
    /// records that were held until their interfaces are identified are a batch of their own.
    pub closed: Vec<(u64, Vec<Batch>)>,
    /// The open window.
    pub open: Restored,
    /// Positions up to which the maps of runs were read, by the run's ID.
    pub positions: BTreeMap<u64, Position>,
    /// Interfaces whose programs were attached.
    pub interfaces: Vec<LeftInterface>,
    /// Number of the file of the open window.
    pub sequence: u64,
    /// Interfaces whose records of the previous window were held.
    pub held: BTreeSet<InterfaceNumber>,
}

/// An interface to which the programs of an earlier run are attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftInterface {
    /// Its number in the programs.
    pub number: InterfaceNumber,
    /// Inode of its namespace.
    pub netns: u64,
    /// Index within the namespace.
    pub ifindex: u32,
    /// MAC address; empty if it has none.
    pub mac: Box<str>,
}

impl Left {
    /// Reads the journal in a directory. Files that cannot be read are skipped with a warning.
    pub fn read(directory: &Path) -> Self {
        let mut left = Self::default();
        let mut files: BTreeMap<u64, File> = BTreeMap::new();
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(sequence) = sequence(&path) else {
                // A file that was not renamed: nothing in it was committed.
                let _ = fs::remove_file(path);
                continue;
            };
            left.sequence = left.sequence.max(sequence);
            match File::read(&path) {
                Ok(file) => drop(files.insert(sequence, file)),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a journal cannot be read");
                    let _ = fs::remove_file(path);
                }
            }
        }
        let Some((_, last)) = files.pop_last() else {
            // Numbers are never used again: outputs remember the windows that they have written.
            left.sequence = getrandom::u64().unwrap_or_default() >> 2;
            return left;
        };
        left.held = last.held();
        let mut held = left.held.clone();
        for (sequence, file) in files.into_iter().rev() {
            let held = std::mem::replace(&mut held, file.held());
            let mut batch = file.into_batch();
            batch.id = Some(BatchId { sequence, held: false });
            let of_held = batch.split_off(&held);
            let batches = [batch, of_held].into_iter().filter(|batch| !batch.is_empty());
            left.closed.push((sequence, batches.collect()));
        }
        left.closed.reverse();
        left.positions = last.positions.clone();
        left.interfaces = last.interfaces();
        left.open = last.into_restored();
        left
    }
}

fn sequence(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_suffix(".journal")?.parse().ok()
}

/// Content of a file.
#[derive(Debug)]
struct File {
    header: Header,
    entries: BTreeMap<InterfaceNumber, InterfaceEntry>,
    /// Flows of the window, and of the next one.
    flows: [Table; 2],
    positions: BTreeMap<u64, Position>,
    accounts: Vec<AccountState>,
}

impl File {
    fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut frames = format::frames(&bytes);
        let header = frames.next().filter(|(kind, _)| *kind == format::HEADER);
        let header = header.and_then(|(_, json)| serde_json::from_slice::<Header>(json).ok());
        let header = header
            .filter(Header::is_ours)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not of this version"))?;
        let mut file = Self {
            header,
            entries: BTreeMap::new(),
            flows: [Table::new(), Table::new()],
            positions: BTreeMap::new(),
            accounts: Vec::new(),
        };
        for (kind, content) in frames {
            match kind {
                format::INTERFACE => {
                    let entry: InterfaceEntry = serde_json::from_slice(content)?;
                    file.entries.insert(entry.number(), entry);
                }
                format::TRANSACTION => {
                    let transaction = format::transaction(content);
                    file.add(transaction.ok_or(io::ErrorKind::InvalidData)?);
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        Ok(file)
    }

    fn add(&mut self, transaction: Transaction) {
        let Transaction { deltas, positions, accounts } = transaction;
        let between_ticks = accounts.is_none();
        self.positions = positions.into_iter().collect();
        if let Some(accounts) = accounts {
            self.accounts = accounts;
        }
        for (mut delta, next) in deltas {
            // As when it was added to the window.
            delta.counters.begin_no_earlier_than(self.header.window().start * 1000);
            self.flows[usize::from(next)].add(&delta);
            if between_ticks && !delta.key.is_rejected_behind_hook() {
                self.account(delta.key.interface(), |account| {
                    let side = delta.key.direction() as usize;
                    let (packets, bytes) = (delta.counters.packets, delta.counters.bytes);
                    account.window[side] += Traffic { packets, bytes };
                    let ledger = &mut account.accounted[side];
                    ledger.packets = ledger.packets.wrapping_add(packets);
                    ledger.bytes = ledger.bytes.wrapping_add(bytes);
                });
            }
        }
    }

    fn account(&mut self, number: InterfaceNumber, change: impl FnOnce(&mut AccountState)) {
        if let Some(account) = self.accounts.iter_mut().find(|it| it.number == number) {
            change(account);
        }
    }

    /// Interfaces whose records of the previous window are held.
    fn held(&self) -> BTreeSet<InterfaceNumber> {
        self.header.held.iter().map(|number| InterfaceNumber::new(*number)).collect()
    }

    fn interfaces(&self) -> Vec<LeftInterface> {
        let attached = self.accounts.iter().filter(|account| !account.retired);
        let interface = |account: &AccountState| {
            let entry = self.entries.get(&account.number)?;
            let (number, key) = (account.number, entry.key());
            let (netns, ifindex, mac) = (key.netns, key.ifindex, entry.mac().into());
            Some(LeftInterface { number, netns, ifindex, mac })
        };
        attached.filter_map(interface).collect()
    }

    fn into_restored(self) -> Restored {
        let interfaces = self.accounts.iter().filter_map(|account| {
            let entry = self.entries.get(&account.number)?;
            Some(Standing {
                number: account.number,
                key: entry.key(),
                named: entry.named(),
                attached: account.attached,
                retired: account.retired,
                accounted: account.accounted,
                unreported: account.unreported,
                window: account.window,
            })
        });
        let interfaces = interfaces.collect();
        let [mut flows, next] = self.flows;
        for flow in next.into_flows() {
            flows.add(&flow);
        }
        Restored { window: Some(self.header.window()), flows, interfaces }
    }

    fn into_batch(self) -> Batch {
        let [mut flows, _] = self.flows;
        flows.settle();
        let mut batch = Batch::new(self.header.window());
        let mut heard = BTreeSet::new();
        for flow in flows.flows() {
            heard.insert(flow.key.interface());
        }
        for account in &self.accounts {
            let number = account.number;
            let Some(entry) = self.entries.get(&number) else { continue };
            batch.subjects.insert(number, entry.named().subject);
            if account.unreported != Traffic::NONE {
                batch.lossy.push((number, account.unreported));
            } else if account.attached && !heard.contains(&number) {
                batch.silent.push(number);
            }
        }
        batch.flows = flows;
        batch
    }
}
