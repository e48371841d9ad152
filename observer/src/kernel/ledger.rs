//! Ledgers of the programs, read from shared memory.

use observer_ebpf::abi::{Direction, Ledger};

use super::mapping::Mapping;
use crate::flow::InterfaceNumber;

/// Ledgers of all interfaces.
#[derive(Debug)]
pub struct Ledgers {
    mapping: Mapping<Ledger>,
    cpus: usize,
}

// SAFETY: this type only reads the mapping, by volatile accesses.
unsafe impl Sync for Ledgers {}

impl Ledgers {
    pub(super) const fn new(mapping: Mapping<Ledger>, cpus: usize) -> Self {
        Self { mapping, cpus }
    }

    /// Ledger of an interface by direction, summed over all CPUs. Zero for a number without a row.
    pub fn of(&self, interface: InterfaceNumber) -> [Ledger; 2] {
        Direction::ALL.map(|direction| {
            let first = (usize::from(interface.get()) * 2 + direction as usize) * self.cpus;
            if first + self.cpus > self.mapping.len() {
                return Ledger::default();
            }
            (first..first + self.cpus)
                .map(|index| self.mapping.read(index))
                .fold(Ledger::default(), |total, ledger| total.plus(&ledger))
        })
    }

    /// Number of frames that crossed an interface in both directions. Cheaper than
    /// [`of`](Self::of).
    pub fn frames(&self, interface: InterfaceNumber) -> u64 {
        const { assert!(std::mem::offset_of!(Ledger, frames) == 0) };
        let rows = Direction::ALL.len() * self.cpus;
        let first = usize::from(interface.get()) * rows;
        (first..first + rows).map(|index| self.mapping.read_first(index)).fold(0, u64::wrapping_add)
    }
}
