//! State of accounts that continue from one run of the daemon to the next.

use observer_ebpf::abi::Ledger;

use super::Named;
use crate::{
    flow::{InterfaceNumber, Table, Traffic, Window},
    tasks::InterfaceKey,
};

/// Window of which a count has become part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The open one.
    Open,
    /// The next one.
    Next,
    /// None: it is counted as lost.
    Not,
}

/// State of an interface's account, from which the next run of the daemon continues it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Number of the interface in the programs.
    pub number: InterfaceNumber,
    /// Key of the interface in this run.
    pub key: InterfaceKey,
    /// Identity in its records.
    pub named: Named,
    /// True if the programs of both directions are attached.
    pub attached: bool,
    /// True if the programs are detached again.
    pub retired: bool,
    /// Ledgers of exactly the traffic that is recorded or lost, by direction.
    pub accounted: [Ledger; 2],
    /// Losses that no record reports yet.
    pub unreported: Traffic,
    /// Traffic in the records of the open window, by direction.
    pub window: [Traffic; 2],
}

/// The open window of an earlier run.
#[derive(Debug, Default)]
pub struct Restored {
    /// The window; `None` if there is none.
    pub window: Option<Window>,
    /// Its flows.
    pub flows: Table,
    /// Its interfaces.
    pub interfaces: Vec<Standing>,
}
