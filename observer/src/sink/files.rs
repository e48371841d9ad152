//! The open files of one output: opening, appending, finishing, and the errors of each.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::PathBuf,
};

use super::{
    counts::Counts,
    delivery::{Finished, Inbox},
    observer::{ObserverRef, SinkLoss},
    options::SinkOptions,
    output::{CloseError, Output},
    part::{Part, Unfinished},
    progress::Progress,
    slot::{Partition, Slot},
};
use crate::{linux::access::Access, log::Logged, record::BatchId};

/// An encoding of units into the bytes of a file.
pub(super) trait Encoding<Unit: ?Sized> {
    /// State of a file that the next unit depends on.
    type State: Default;

    /// Encodes a unit for a file in state `state` whose body ends at `offset`.
    fn encode<'a>(
        &'a mut self,
        state: &Self::State,
        offset: u64,
        unit: &'a Unit,
    ) -> io::Result<Encoded<'a, Self::State>>;
}

/// An encoded unit.
#[derive(Debug)]
pub(super) struct Encoded<'a, State> {
    /// The unit's bytes, then the tail that makes the file complete.
    pub(super) bytes: &'a [u8],
    /// Length of the unit's part of `bytes`.
    pub(super) body: usize,
    /// State of the file after this unit.
    pub(super) state: State,
}

/// The files of one output, one for each slot.
#[derive(Debug)]
pub(super) struct Files<State> {
    output: Output,
    ending: &'static str,
    directory: PathBuf,
    access: Access,
    partition: Partition,
    flow_log_id: String,
    size: u64,
    observer: ObserverRef,
    delivery: Option<Inbox>,
    open: BTreeMap<Slot, (Part, State)>,
    /// Files that take no more units and could not be finished yet.
    closed: Vec<Part>,
    /// The state last reported to the observer.
    failing: bool,
    /// Directory for the progress.
    state: Option<PathBuf>,
    progress: Progress,
    noting: Logged<io::ErrorKind>,
}

impl<State: Default> Files<State> {
    pub(super) fn new(output: Output, options: &SinkOptions, observer: ObserverRef) -> Self {
        Self {
            output,
            ending: output.ending().unwrap_or_default(),
            directory: options.directory.clone(),
            access: options.access,
            partition: options.partition,
            flow_log_id: options.flow_log_id.clone(),
            size: options.file_size,
            observer,
            delivery: options.delivery.clone(),
            open: BTreeMap::new(),
            closed: Vec::new(),
            failing: false,
            state: options.state.clone(),
            progress: options
                .state
                .as_deref()
                .map(|directory| Progress::read(directory, output))
                .unwrap_or_default(),
            noting: Logged::default(),
        }
    }

    /// Appends a unit to the file of its slot, reports the result to the observer, and returns the
    /// length of that file's body.
    pub(super) fn append<Unit: ?Sized>(
        &mut self,
        encoding: &mut impl Encoding<Unit, State = State>,
        slot: &Slot,
        unit: &Unit,
        counts: &Counts,
    ) -> u64 {
        self.drop_if_gone(slot);
        match self.try_append(encoding, slot, unit, counts) {
            Ok(()) => {
                self.observer.written(self.output, counts);
                self.succeeded();
            }
            Err(error) => {
                self.observer.lost(self.output, counts, SinkLoss::WriteError);
                self.failed(&error);
            }
        }
        self.observer.settled(counts);
        self.open.get(slot).map_or(0, |(part, _)| part.body())
    }

    fn try_append<Unit: ?Sized>(
        &mut self,
        encoding: &mut impl Encoding<Unit, State = State>,
        slot: &Slot,
        unit: &Unit,
        counts: &Counts,
    ) -> io::Result<()> {
        let mut open = match self.open.entry(slot.clone()) {
            Entry::Occupied(open) => open,
            Entry::Vacant(vacant) => {
                let folder = slot.folder(&self.directory, self.partition);
                let stem = slot.stem(&self.flow_log_id);
                vacant.insert_entry((
                    Part::create(self.access, &folder, &stem, self.ending)?,
                    State::default(),
                ))
            }
        };
        let (part, state) = open.get_mut();
        let result = encoding.encode(state, part.body(), unit).and_then(|encoded| {
            part.append(encoded.bytes, encoded.body)?;
            *state = encoded.state;
            part.counts += *counts;
            Ok(())
        });
        if part.size() == 0 {
            open.remove().0.discard();
        } else if part.size() >= self.size {
            // Finished after the batch, when its length is noted.
            self.closed.push(open.remove().0);
        }
        result
    }

    /// Closes a file that was removed by another process.
    fn drop_if_gone(&mut self, slot: &Slot) {
        if self.open.get(slot).is_some_and(|(part, _)| part.is_gone())
            && let Some((part, _)) = self.open.remove(slot)
        {
            self.gone(&part);
        }
    }

    fn gone(&self, part: &Part) {
        tracing::error!(
            output = self.output.as_str(),
            records = part.counts.records(),
            "a file was removed before it was finished: its records are lost"
        );
        self.observer.lost(self.output, &part.counts, SinkLoss::FileGone);
    }

    /// Ends a batch: notes that it is wholly written, and finishes the files that take no more units.
    pub(super) fn end_batch(&mut self, id: Option<BatchId>, time: i64) {
        if let (Some(id), Some(directory)) = (id, &self.state) {
            let parts = self.open.values().map(|(part, _)| part).chain(&self.closed);
            if let Err(error) = self.progress.note(id, parts, (directory, self.output))
                && self.noting.is_new(error.kind())
            {
                tracing::warn!(
                    output = self.output.as_str(), %error,
                    "the progress of an output cannot be noted: if the daemon is killed, the next start may write records twice"
                );
            }
        }
        self.finish_before(time);
    }

    /// Finishes the files whose slots end at or before `time`.
    fn finish_before(&mut self, time: i64) {
        let over = self.open.extract_if(.., |slot, _| slot.is_over(time));
        self.closed.extend(over.map(|(_, (part, _))| part));
        self.finish_closed();
    }

    fn finish_closed(&mut self) {
        let mut error = None;
        for mut part in std::mem::take(&mut self.closed) {
            match part.finish() {
                Ok(path) => {
                    self.observer.finished(self.output);
                    if let Some(inbox) = &self.delivery {
                        inbox.send(Finished { path, counts: Some((self.output, part.counts)) });
                    }
                }
                Err(Unfinished::Gone) => self.gone(&part),
                Err(Unfinished::Unsynced(because)) => {
                    self.observer.lost(self.output, &part.counts, SinkLoss::WriteError);
                    part.set_aside();
                    error = Some(because);
                }
                Err(Unfinished::Retry(because)) => {
                    self.closed.push(part);
                    error = Some(because);
                }
            }
        }
        if let Some(error) = error {
            self.failed(&error);
        }
    }

    /// Finishes all files. The error names the number of files that could not be finished.
    pub(super) fn close(&mut self) -> Result<(), CloseError> {
        self.finish_before(i64::MAX);
        let directory = || self.directory.clone();
        match (self.closed.len(), self.failing) {
            (0, false) => Ok(()),
            (0, true) => Err(CloseError::Unwritable(directory())),
            (files, _) => Err(CloseError::Unfinished { files, directory: directory() }),
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.failing {
            tracing::error!(
                output = self.output.as_str(),
                directory = %self.directory.display(),
                %error,
                "records cannot be written; later windows are tried again"
            );
        }
        self.failing = true;
        self.observer.failing(self.output, true);
    }

    fn succeeded(&mut self) {
        if self.failing && self.closed.is_empty() {
            tracing::info!(output = self.output.as_str(), "records can be written again");
            self.failing = false;
            self.observer.failing(self.output, false);
        }
    }
}
