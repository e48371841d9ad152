//! The report's model. The names of its fields are the keys of the JSON form.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The sources, tasks and interfaces of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The sources that are turned on.
    pub sources: Vec<SourceReport>,
    /// Tasks on this host, and tasks that a source lists for it.
    pub tasks: Vec<TaskReport>,
    /// Interfaces that belong to no known task.
    pub interfaces: Vec<InterfaceReport>,
    /// Number of interfaces that were gone before they could be observed.
    pub missed: u64,
    /// Interfaces that are not observed, without loopbacks.
    #[serde(default)]
    pub left_out: Vec<LeftOutReport>,
}

/// An interface that is not observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutReport {
    /// Name of the interface.
    pub name: String,
    /// Inode of its namespace.
    pub netns: u64,
    /// Path of a file of its namespace.
    pub netns_path: String,
    /// The reason for not observing it.
    pub reason: String,
}

/// A source and its health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Name of the source, as `--source` takes it.
    pub name: String,
    /// True if its last request succeeded.
    pub up: bool,
    /// The error of its last request; empty if that succeeded.
    pub detail: String,
    /// Number of tasks in its view.
    pub tasks: usize,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Task id.
    pub id: String,
    /// Service name; empty if the task has none or it is unknown.
    pub service: String,
    /// Network mode; empty if unknown.
    pub mode: String,
    /// `present`; `waiting` for its interface; `host`: uses the host's interfaces; `none`: has no
    /// network; or `absent`: a source lists the task, but this host does not have it.
    pub state: String,
    /// Sources that list the task.
    pub sources: Vec<String>,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// Fields of the task, by name.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldReport>,
    /// Its ENIs, as the sources list them.
    #[serde(default)]
    pub enis: Vec<EniReport>,
    /// Addresses of its ENI, from sources that give nothing else of the ENI.
    #[serde(default)]
    pub addresses: Vec<AddressReport>,
    /// Its interfaces on this host.
    pub interfaces: Vec<InterfaceReport>,
}

/// An interface on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// Name of the interface.
    pub name: String,
    /// Inode of its namespace.
    pub netns: u64,
    /// Path of a file of its namespace.
    pub netns_path: String,
    /// MAC address; empty if it has none.
    pub mac: String,
    /// IP addresses.
    pub addresses: Vec<String>,
    /// `observed`, `detached` or `failed` with a reason, or `not observed`.
    pub attach: String,
    /// Identity of the interface, by field name.
    pub fields: BTreeMap<String, FieldReport>,
    /// Values that were rejected in favour of those in `fields`.
    pub conflicts: Vec<ConflictReport>,
    /// Missing fields, one line each, with the reason and the remedy.
    pub missing: Vec<String>,
}

/// An ENI, as the sources describe it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniReport {
    /// MAC address.
    pub mac: String,
    /// Fields of the ENI, by name.
    pub fields: BTreeMap<String, FieldReport>,
}

/// An IP address, as a source gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressReport {
    /// IP address.
    pub address: String,
    /// Name of the source.
    pub source: String,
}

/// The value of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldReport {
    /// Value.
    pub value: String,
    /// Name of the source that gave it.
    pub source: String,
}

/// A rejected value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// Name of the field.
    pub field: String,
    /// Name of the source that gave the value.
    pub source: String,
    /// Value.
    pub value: String,
}
