//! Limits that are too low, with the consequence.

use std::{fmt, path::PathBuf};

use serde::{Serialize, Serializer};

use super::{Limit, SetBy, bytes};

/// A limit that the daemon cannot run with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// The limit of memory is too low for any setting.
    #[error(
        "the memory limit of {} ({}) is too low: observer needs at least {} with these outputs: raise the limit",
        bytes(.limit.value),
        .limit.set_by,
        bytes(*.least)
    )]
    Memory {
        /// The limit.
        limit: Limit,
        /// Smallest sufficient limit, in bytes.
        least: u64,
    },
    /// The maps alone would exceed the limit of memory.
    #[error(
        "--flow-memory {} is more than {}: give at most {}",
        bytes(*.given),
        excess(.limit),
        bytes(*.most)
    )]
    FlowMemory {
        /// Value given, in bytes.
        given: u64,
        /// The limit.
        limit: Limit,
        /// Largest value that fits, in bytes.
        most: u64,
    },
    /// The maps exceed the limit of locked memory, which the kernel charges them to.
    #[error(
        "the limit of locked memory, {}, is too low for --flow-memory {}: raise it (LimitMEMLOCK=, ulimit -l), or run \
         with CAP_SYS_RESOURCE",
        bytes(*.limit),
        bytes(*.needed)
    )]
    LockedMemory {
        /// The limit in bytes.
        limit: u64,
        /// Size of the maps in bytes.
        needed: u64,
    },
}

fn excess(limit: &Limit) -> String {
    match limit.set_by {
        SetBy::Host => format!("this host has ({})", bytes(limit.value)),
        SetBy::Group(_) => {
            format!("fits into the memory limit of {} ({})", bytes(limit.value), limit.set_by)
        }
    }
}

/// A setting or need that exceeds a limit. Displays with the consequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tight {
    /// More flows were given than fit into memory.
    MaxFlows {
        /// Number of flows given.
        given: u32,
        /// The limit.
        memory: Limit,
        /// Number of flows that fit.
        fit: usize,
    },
    /// The output files are in memory, which the kernel charges to the control group.
    FilesInMemory {
        /// The folder.
        directory: PathBuf,
        /// The limit.
        memory: Limit,
    },
    /// The limit of descriptors allows few interfaces.
    Descriptors {
        /// The limit.
        limit: u64,
        /// Number of interfaces that it allows.
        interfaces: u64,
    },
    /// The limit of threads is lower than the largest number of threads.
    Threads {
        /// The limit.
        limit: Limit,
        /// Largest number of threads of the daemon.
        needed: u64,
    },
}

impl fmt::Display for Tight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MaxFlows { given, memory, fit } => write!(
                f,
                "--max-flows {given} does not fit into memory ({} by {}): packets of more than {fit} flows are counted as lost",
                bytes(memory.value),
                memory.set_by
            ),
            Self::FilesInMemory { directory, memory } => write!(
                f,
                "{} is in memory (tmpfs), so its files count against the memory limit of {} ({}): give --output-dir a \
                 folder on a disk",
                directory.display(),
                bytes(memory.value),
                memory.set_by
            ),
            Self::Descriptors { limit, interfaces } => write!(
                f,
                "{limit} descriptors are enough for {interfaces} interfaces: raise the limit to observe more \
                 (LimitNOFILE=, ulimit -n)"
            ),
            Self::Threads { limit, needed } => write!(
                f,
                "{} threads ({}) may not be enough: observer runs up to {needed}: raise the limit",
                limit.value, limit.set_by
            ),
        }
    }
}

impl Serialize for Tight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
