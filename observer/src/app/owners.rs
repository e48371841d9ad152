//! Whose flows are on interfaces that several tasks share.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    kernel::{Drain, KernelError},
    linux::cgroup::Cgroups,
    record::Owners,
    tasks::container_in,
};

/// Control groups that are remembered.
const MOST_GROUPS: usize = 4096;
/// Flows of a window that are remembered, in either direction; beyond them they are the host's.
const MOST_FLOWS: usize = 1 << 18;
/// The part of the room for flows that they take at most: each takes about as much as a flow.
const PART: usize = 8;

/// What the programs tell of a window's flows, and the containers behind it.
#[derive(Debug)]
pub(super) struct Senders {
    cgroups: Cgroups,
    most_flows: usize,
    /// By control group; `None` where it is no container's, or was gone.
    containers: BTreeMap<u64, Option<Arc<str>>>,
    window: Owners,
    /// What the last drain told.
    latest: Owners,
}

impl Senders {
    /// Nothing is told yet. Memory has room for so many flows.
    pub(super) fn new(cgroups: Cgroups, flows_in_memory: usize) -> Self {
        Self {
            cgroups,
            most_flows: MOST_FLOWS.min(flows_in_memory / PART),
            containers: BTreeMap::new(),
            window: Owners::default(),
            latest: Owners::default(),
        }
    }

    /// Takes what was told since the last drain. A container that ends within the time between two
    /// is not found.
    pub(super) fn take(&mut self, drain: &mut Drain) -> Result<(), KernelError> {
        let Self { cgroups, most_flows, containers, window, latest } = self;
        if containers.len() > MOST_GROUPS {
            containers.clear();
        }
        latest.clear();
        drain.take_owners(|key, group| {
            let container = containers.entry(group).or_insert_with(|| {
                let path = cgroups.path(group)?;
                container_in(&path.to_string_lossy()).map(|id| Arc::from(&*id))
            });
            if let Some(container) = container {
                latest.insert(key, Arc::clone(container));
                latest.insert(key.reversed(), Arc::clone(container));
            }
        })?;
        let room = most_flows.saturating_sub(window.len());
        window
            .extend(latest.iter().take(room).map(|(key, container)| (*key, Arc::clone(container))));
        Ok(())
    }

    /// What is known of the window that ends. A flow that the last drain told of may go on, and is
    /// told of again only after the next one.
    pub(super) fn close(&mut self) -> Owners {
        std::mem::replace(&mut self.window, self.latest.clone())
    }
}
