//! Ledgers in their map: one for each interface, direction and CPU.

use observer_ebpf::abi::Direction;

use super::settings::CPUS;

/// Index of a ledger in the map `LEDGER`.
#[inline(always)]
pub(super) fn ledger_index(interface: u16, direction: Direction, cpu: u32) -> u32 {
    (u32::from(interface) * 2 + direction as u32) * CPUS.load() + cpu
}
