//! The list of interfaces whose drops are counted.

use std::collections::BTreeMap;

use aya::maps::MapData;
use observer_ebpf::abi::WatchKey;

use crate::{
    flow::InterfaceNumber,
    kernel::{
        KernelError,
        syscall::{delete, map_fd, update},
    },
};

/// Interfaces whose drops are counted.
///
/// An interface is on the list only while its hooks are attached. A dropped packet that no hook has
/// counted would be subtracted from the flow of another packet.
#[derive(Debug)]
pub struct Watchlist {
    map: MapData,
    /// Interface numbers, by the inode of the namespace and then by interface index.
    namespaces: BTreeMap<u32, BTreeMap<u32, u16>>,
}

impl Watchlist {
    /// An empty list in the map `WATCHED`.
    pub(super) const fn new(map: MapData) -> Self {
        Self { map, namespaces: BTreeMap::new() }
    }

    /// Starts counting the drops of an interface. `netns` is the inode of its namespace.
    pub fn add(
        &mut self,
        netns: u64,
        ifindex: u32,
        number: InterfaceNumber,
    ) -> Result<(), KernelError> {
        let netns = netns as u32;
        self.namespaces.entry(netns).or_default().insert(ifindex, number.get());
        update(map_fd(&self.map), &WatchKey { netns, ifindex }, &u32::from(number.get()))?;
        self.set_namespace(netns)
    }

    /// Stops counting the drops of an interface.
    pub fn remove(&mut self, netns: u64, ifindex: u32) -> Result<(), KernelError> {
        let netns = netns as u32;
        if let Some(interfaces) = self.namespaces.get_mut(&netns) {
            interfaces.remove(&ifindex);
        }
        delete(map_fd(&self.map), &WatchKey { netns, ifindex })?;
        self.set_namespace(netns)
    }

    /// Sets the interface to which drops of a namespace belong that happen before a route is
    /// chosen: its only interface, or none if there are several.
    fn set_namespace(&mut self, netns: u32) -> Result<(), KernelError> {
        let key = WatchKey { netns, ifindex: 0 };
        let numbers: Vec<u16> =
            self.namespaces.get(&netns).into_iter().flatten().map(|(_, it)| *it).collect();
        match numbers[..] {
            [] => {
                self.namespaces.remove(&netns);
                delete(map_fd(&self.map), &key)
            }
            [only] => update(map_fd(&self.map), &key, &u32::from(only)),
            _ => update(map_fd(&self.map), &key, &0_u32),
        }
    }
}
