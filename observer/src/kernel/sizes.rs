//! Sizes of the shared maps, from one memory budget.

use observer_ebpf::abi::{Direction, DropKey, DropSlot, FlowKey, FlowSet, FlowSlot, Ledger, WAYS};

use super::KernelError;

/// Maximum number of interfaces observed at once. An instance with trunked ENIs runs at most 120
/// tasks (AWS, "Elastic network interface trunking"), and bridge mode adds one interface per
/// container.
pub const MAX_INTERFACES: u16 = 512;

/// Sizes of the maps that share the budget of `--flow-memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Number of possible CPUs.
    pub cpus: u32,
    /// Sets of flow entries per CPU and half; a multiple of 64.
    pub sets: u32,
    /// Size of the spill ring in bytes; a power of two.
    pub ring_bytes: u32,
    /// Rows of the ledger. Interface numbers are below this; number 0 is never used.
    pub interfaces: u16,
    /// Entries per half for flows that policy dropped.
    pub drops: u32,
    /// Entries per half for flows that were not delivered.
    pub undelivered: u32,
    /// Entries for the owners of flows, where several tasks share an interface. They are cleared
    /// every second.
    pub owners: u32,
}

impl Sizes {
    const HALVES: u64 = 2;
    /// Bytes of 64 sets and their word in the `USED` map, which has one bit per set.
    const GROUP: u64 = 64 * size_of::<FlowSet>() as u64 + 8;
    const MIN_RING: u64 = 64 << 10;
    const MAX_RING: u64 = 64 << 20;
    /// Bytes of a hash map element (header, key and value) and its share of the buckets. There are
    /// one to two buckets of 16 bytes per element.
    const DROP: u64 = 48 + (size_of::<DropKey>() + size_of::<DropSlot>()) as u64 + 32;
    const OWNER: u64 = 48 + (size_of::<FlowKey>() + size_of::<u64>()) as u64 + 32;

    /// Divides `budget` bytes among the maps.
    ///
    /// The spill ring gets up to a quarter, the ledger up to a quarter, dropped flows 1/16,
    /// undelivered flows 1/64, owners 1/64, and flows the rest. Fails with [`KernelError::Memory`]
    /// if that leaves less than 64 sets per row.
    pub fn from_budget(budget: u64, cpus: u32) -> Result<Self, KernelError> {
        let rows = Self::HALVES * u64::from(cpus);
        let per_interface = Self::per_interface(cpus);
        let quarter = budget / 4;
        let ring_bytes = if quarter < Self::MIN_RING {
            Self::MIN_RING
        } else {
            1 << quarter.min(Self::MAX_RING).ilog2()
        };
        // Number 0 is never used, but takes a row.
        let interfaces = (quarter / per_interface).clamp(64, u64::from(MAX_INTERFACES) + 1);
        let drops = budget / 16 / Self::HALVES / Self::DROP;
        let undelivered = drops / 4;
        let owners = budget / 64 / Self::OWNER;
        let fixed = ring_bytes
            + interfaces * per_interface
            + Self::HALVES * (drops + undelivered) * Self::DROP
            + owners * Self::OWNER;
        let groups = budget.saturating_sub(fixed) / (rows * Self::GROUP);
        if groups == 0 {
            return Err(KernelError::Memory { given: budget, cpus, least: Self::least(cpus) });
        }
        Ok(Self {
            cpus,
            // The index of the last set must fit in 32 bits.
            sets: (groups * 64).min(u64::from(u32::MAX) / rows / 64 * 64) as u32,
            ring_bytes: ring_bytes as u32,
            interfaces: interfaces as u16,
            drops: drops.clamp(1, u32::MAX.into()) as u32,
            undelivered: undelivered.clamp(1, u32::MAX.into()) as u32,
            owners: owners.clamp(1, u32::MAX.into()) as u32,
        })
    }

    /// Smallest budget in bytes that [`from_budget`](Self::from_budget) accepts.
    pub fn least(cpus: u32) -> u64 {
        let rows = Self::HALVES * u64::from(cpus);
        (Self::MIN_RING + 64 * Self::per_interface(cpus) + rows * Self::GROUP) * 64 / 42
    }

    /// Bytes of the ledger per interface.
    fn per_interface(cpus: u32) -> u64 {
        2 * u64::from(cpus) * size_of::<Ledger>() as u64
    }

    /// Flow entries that each of `interfaces` may create per direction, CPU and half. An interface
    /// that creates more loses entries first when the spill ring fills up.
    pub(super) fn share(&self, interfaces: u32) -> u32 {
        let directions = Direction::ALL.len() as u32;
        self.sets * WAYS as u32 / directions / interfaces.max(1)
    }

    /// Flows that one half of the cache holds, over all CPUs.
    pub fn flows(&self) -> u64 {
        u64::from(self.sets) * u64::from(self.cpus) * size_of::<FlowSet>() as u64
            / size_of::<FlowSlot>() as u64
    }

    /// Rows of the flow cache: one per CPU and half.
    pub(super) fn rows(&self) -> u32 {
        Self::HALVES as u32 * self.cpus
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(sizes: &Sizes) -> u64 {
        let rows = u64::from(sizes.rows());
        u64::from(sizes.ring_bytes)
            + u64::from(sizes.interfaces) * 2 * u64::from(sizes.cpus) * size_of::<Ledger>() as u64
            + rows * u64::from(sizes.sets) * size_of::<FlowSet>() as u64
            + rows * u64::from(sizes.sets) / 8
            + Sizes::HALVES * u64::from(sizes.drops + sizes.undelivered) * Sizes::DROP
            + u64::from(sizes.owners) * Sizes::OWNER
    }

    #[test]
    fn sizes_stay_within_the_budget_and_use_most_of_it() {
        for cpus in [1, 2, 4, 16, 96, 192] {
            for mib in [4, 16, 64, 100, 256, 1024, 16 * 1024] {
                let budget = mib << 20;
                match Sizes::from_budget(budget, cpus) {
                    Ok(sizes) => {
                        assert!(bytes(&sizes) <= budget, "{cpus} CPUs, {mib} MiB: {sizes:?}");
                        assert!(bytes(&sizes) > budget / 4, "{cpus} CPUs, {mib} MiB: {sizes:?}");
                        assert_eq!(sizes.sets % 64, 0);
                        assert!(sizes.ring_bytes.is_power_of_two());
                    }
                    Err(error) => {
                        let KernelError::Memory { least, .. } = error else { panic!("{error}") };
                        assert!(least > budget);
                        Sizes::from_budget(least, cpus).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn the_default_budget_holds_a_hundred_thousand_flows_on_two_cpus() {
        assert!(Sizes::from_budget(64 << 20, 2).unwrap().flows() > 300_000);
    }
}
