//! Where the watch leaves what it knows, for whoever wants to show it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{
    InterfaceKey, Report, Source, State,
    knowledge::{Knowledge, Known},
    resolve::Views,
    watch::LeftOut,
};

/// Whether the programs are on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachState {
    /// They are.
    Observed,
    /// Somebody has removed them, and they are not back yet, for this reason.
    Detached(Box<str>),
    /// They could not be put there, for this reason.
    Failed(Box<str>),
}

/// The latest that is known.
#[derive(Debug, Default)]
pub struct Board(Mutex<Latest>);

#[derive(Debug, Default)]
pub(super) struct Latest {
    pub(super) sources: BTreeMap<Source, State>,
    pub(super) views: Views,
    pub(super) known: BTreeMap<InterfaceKey, Known>,
    /// Interfaces that are not to be observed.
    pub(super) left_out: BTreeMap<InterfaceKey, LeftOut>,
    /// `None` where nobody attaches anything.
    pub(super) attached: Option<BTreeMap<InterfaceKey, AttachState>>,
    /// Interfaces that were gone before they could be observed.
    pub(super) missed: u64,
}

impl Board {
    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, knowledge: &Knowledge, left_out: BTreeMap<InterfaceKey, LeftOut>) {
        let present = knowledge.known().filter(|(_, known)| known.is_present());
        let known = present.map(|(key, known)| (*key, known.clone())).collect();
        let mut latest = self.latest();
        latest.sources.clone_from(knowledge.states());
        latest.views.clone_from(knowledge.views());
        latest.known = known;
        latest.left_out = left_out;
    }

    /// Which interfaces carry the programs.
    pub fn set_attached(&self, attached: BTreeMap<InterfaceKey, AttachState>) {
        self.latest().attached = Some(attached);
    }

    /// One more interface was gone before it could be observed.
    pub fn add_missed(&self) {
        self.latest().missed += 1;
    }

    /// Whether every source has answered, or failed to.
    pub fn is_settled(&self) -> bool {
        self.latest().sources.values().all(|state| *state != State::Starting)
    }

    /// All of it, to be shown.
    pub fn report(&self) -> Report {
        Report::new(&self.latest())
    }
}
