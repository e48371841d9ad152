use std::sync::Arc;

use super::{
    counts::Counts,
    slot::{Owners, Slot},
};
use crate::{flow::InterfaceNumber, record::Record};

/// Records of one file, gathered for one write.
#[derive(Debug)]
pub(super) struct Unit<T> {
    pub(super) slot: Slot,
    pub(super) content: T,
    pub(super) counts: Counts,
}

/// The units of a window, one for each slot.
#[derive(Debug)]
pub(super) struct Units<T> {
    owners: Owners,
    waiting: Vec<Unit<T>>,
    /// Index of the unit used last; the next record mostly belongs to it.
    last: usize,
}

impl<T> Units<T> {
    pub(super) fn new() -> Self {
        Self { owners: Owners::default(), waiting: Vec::new(), last: 0 }
    }

    /// Returns the unit of a record, and adds the record to its counts.
    pub(super) fn of(
        &mut self,
        interface: InterfaceNumber,
        record: &Record<'_>,
        empty: impl FnOnce() -> T,
    ) -> &mut Unit<T> {
        let Self { owners, waiting, last } = self;
        let (start, owner) = owners.of(interface, record);
        let is_its =
            |unit: &Unit<T>| unit.slot.start == start && Arc::ptr_eq(&unit.slot.owner, owner);
        if !waiting.get(*last).is_some_and(is_its) {
            *last = waiting.iter().position(is_its).unwrap_or_else(|| {
                let slot = Slot { start, owner: Arc::clone(owner) };
                waiting.push(Unit { slot, content: empty(), counts: Counts::default() });
                waiting.len() - 1
            });
        }
        let unit = &mut waiting[*last];
        unit.counts.add(record);
        unit
    }

    /// All units.
    pub(super) fn into_units(self) -> impl Iterator<Item = Unit<T>> {
        self.waiting.into_iter()
    }
}
