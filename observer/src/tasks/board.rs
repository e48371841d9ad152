//! The snapshot that the watch updates and reports read.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    InterfaceKey, Report, State,
    knowledge::Knowledge,
    snapshot::{AttachState, LeftOut, Snapshot},
};

/// Latest state of sources and interfaces, shared between threads.
#[derive(Debug, Default)]
pub struct Board(Mutex<Snapshot>);

impl Board {
    fn snapshot(&self) -> MutexGuard<'_, Snapshot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, knowledge: &Knowledge, left_out: BTreeMap<InterfaceKey, LeftOut>) {
        let present = knowledge.known().filter(|(_, known)| known.is_present());
        let known = present.map(|(key, known)| (*key, known.clone())).collect();
        let mut snapshot = self.snapshot();
        snapshot.sources.clone_from(knowledge.states());
        snapshot.views.clone_from(knowledge.views());
        snapshot.known = known;
        snapshot.left_out = left_out;
    }

    /// Replaces the attachment states of all interfaces.
    pub fn set_attached(&self, attached: BTreeMap<InterfaceKey, AttachState>) {
        self.snapshot().attached = Some(attached);
    }

    /// Counts one more interface that was gone before it could be observed.
    pub fn add_missed(&self) {
        self.snapshot().missed += 1;
    }

    /// True once a request to every source has succeeded or failed.
    pub fn is_settled(&self) -> bool {
        self.snapshot().sources.values().all(|state| *state != State::Starting)
    }

    /// Builds the report of `observer tasks`.
    pub fn report(&self) -> Report {
        Report::new(&self.snapshot())
    }
}
