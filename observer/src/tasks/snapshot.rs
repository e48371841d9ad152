//! The state that the watch publishes for reports.

use std::collections::BTreeMap;

use super::{
    Interface, InterfaceKey, Source, State, knowledge::KnownInterface, resolve::Views,
    selection::Reason,
};

/// Attachment state of an interface's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttachState {
    /// The programs are attached.
    Observed,
    /// Another program removed them, and attaching them again has failed so far, for this reason.
    Detached(Box<str>),
    /// Attaching them failed, for this reason.
    Failed(Box<str>),
}

/// An interface that is not observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) interface: Interface,
    /// [`None`] for a link to the ECS agent.
    pub(super) reason: Option<Reason>,
}

/// The latest state of sources and interfaces.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) sources: BTreeMap<Source, State>,
    pub(super) views: Views,
    /// Interfaces that exist now and are observed.
    pub(super) known: BTreeMap<InterfaceKey, KnownInterface>,
    /// Interfaces that are not observed.
    pub(super) left_out: BTreeMap<InterfaceKey, LeftOut>,
    /// Attachment state by interface; `None` if this process attaches no programs.
    pub(super) attached: Option<BTreeMap<InterfaceKey, AttachState>>,
    /// Number of interfaces that were gone before they could be observed.
    pub(super) missed: u64,
}
