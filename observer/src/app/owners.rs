//! Owners of flows on interfaces that several tasks share.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    kernel::{Drain, KernelError},
    linux::cgroup::Cgroups,
    record::Owners,
    tasks::container_in,
};

/// Largest number of control groups in memory.
const MOST_GROUPS: usize = 4096;
/// Largest number of entries of a window, one for each direction of a flow. Further flows are
/// attributed to the host.
const MOST_FLOWS: usize = 1 << 18;
/// Divisor: entries may take this part of the room for flows. An entry takes about as much memory
/// as a flow.
const PART: usize = 8;

/// Senders of a window's flows, as the programs report them, and their containers.
#[derive(Debug)]
pub(super) struct Senders {
    cgroups: Cgroups,
    most_flows: usize,
    /// Container by control group; `None` if the group belongs to no container, or was gone.
    containers: BTreeMap<u64, Option<Arc<str>>>,
    window: Owners,
    /// Owners that the last drain reported.
    latest: Owners,
}

impl Senders {
    /// Starts without owners. `flows_in_memory` is the number of flows that fit into memory.
    pub(super) fn new(cgroups: Cgroups, flows_in_memory: usize) -> Self {
        Self {
            cgroups,
            most_flows: MOST_FLOWS.min(flows_in_memory / PART),
            containers: BTreeMap::new(),
            window: Owners::default(),
            latest: Owners::default(),
        }
    }

    /// Takes the owners reported since the last drain. A container that has ended since is found
    /// only if it was found before.
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

    /// Owners of the window that ends. Flows of the last drain may continue, and are not reported
    /// again before the next drain, so their owners are kept for the next window too.
    pub(super) fn close(&mut self) -> Owners {
        std::mem::replace(&mut self.window, self.latest.clone())
    }
}
