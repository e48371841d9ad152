//! Interfaces and tasks of this host that sources are asked about.

use std::collections::BTreeSet;

use crate::tasks::{InterfaceKey, Mac};

/// The interfaces and tasks to ask sources about, as the watch last saw them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tasks) struct Scene {
    /// Number of changes so far.
    pub(in crate::tasks) changes: u64,
    /// Interfaces that may be ENIs.
    pub(in crate::tasks) interfaces: Vec<(InterfaceKey, Mac)>,
    /// Tasks on this host that have a task metadata endpoint.
    pub(in crate::tasks) tasks: Vec<SceneTask>,
    /// ARNs of all tasks on this host.
    pub(in crate::tasks) arns: BTreeSet<Box<str>>,
}

/// A task on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::tasks) struct SceneTask {
    /// Ids of its containers, sorted. A change of this list means that the task must be asked about
    /// again.
    pub(in crate::tasks) containers: Vec<Box<str>>,
    /// Task metadata endpoint id of one of the containers.
    pub(in crate::tasks) endpoint: Option<Box<str>>,
}
