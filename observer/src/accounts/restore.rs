//! Continuing the accounts of an earlier run.

use std::collections::BTreeMap;

use observer_ebpf::abi::Ledger;

use super::{
    Accounts, OpenTick, Restored, Standing, Uncounted,
    interface::{Interface, Stage},
};
use crate::flow::{Counters, Direction, InterfaceNumber, Table, Traffic, Window};

impl Accounts {
    /// State of each account that is not closed.
    pub fn standings(&mut self) -> Vec<Standing> {
        let open = self.register.all().filter(|interface| interface.stage() != Stage::Closed);
        open.map(|interface| interface.standing()).collect()
    }

    /// The open window and its flows.
    pub const fn in_window(&self) -> (Window, &Table) {
        (self.window, &self.flows)
    }

    /// The window that follows the one that [`finish`](Self::finish) closes in this tick: that of the
    /// next run.
    pub fn window_of_next_run(&self, tick: &OpenTick) -> Window {
        self.last_window(tick).next(tick.now_ms, self.limits.window_seconds)
    }

    /// Sets the ledgers from which accounts start under each number. They are not zero if an earlier
    /// run has used the number.
    pub fn start_numbers(&mut self, ledgers_of: impl Fn(InterfaceNumber) -> [Ledger; 2]) {
        self.register.set_bases(ledgers_of);
    }

    /// Counts traffic as lost that an earlier run has seen, and that was neither in its journal nor in
    /// its maps.
    pub fn lose_with_earlier_run(&mut self, number: InterfaceNumber, missing: [Traffic; 2]) {
        if let Some(interface) = self.register.get(number) {
            interface.account.disown(missing);
        }
        self.miss(number, Uncounted::Crash, missing);
    }

    /// Continues the accounts of an earlier run. Call before anything else is added.
    ///
    /// Traffic that the earlier run had recorded in its open window and that is not among the
    /// restored flows is counted as lost.
    pub fn restore(&mut self, restored: Restored) {
        let Restored { window, flows, interfaces } = restored;
        if let Some(window) = window {
            self.window = window;
        }
        let mut found = BTreeMap::<_, [Traffic; 2]>::new();
        for flow in flows.flows().filter(|flow| !flow.key.is_rejected_behind_hook()) {
            let Counters { packets, bytes, .. } = flow.counters;
            found.entry(flow.key.interface()).or_default()[flow.key.direction() as usize] +=
                Traffic { packets, bytes };
        }
        for standing in interfaces {
            let (number, window) = (standing.number, standing.window);
            let found = found.get(&number).copied().unwrap_or_default();
            let patience = self.window.end + i64::from(self.limits.window_seconds);
            let mut interface = Interface::continued(standing, patience * 1000);
            interface.set_window(found);
            self.register.put_continued(interface);
            let missing = Direction::ALL.map(|direction| {
                window[direction as usize].saturating_sub(found[direction as usize])
            });
            self.miss(number, Uncounted::Crash, missing);
        }
        self.share();
        self.register.restored(&flows);
        self.flows = flows;
    }
}
