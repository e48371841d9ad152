use std::sync::Arc;

use super::{
    Counts,
    place::{Places, Slot},
};
use crate::{flow::InterfaceNumber, record::Record};

/// Records of one file that wait for enough others.
#[derive(Debug)]
pub(super) struct Unit<T> {
    pub(super) slot: Slot,
    pub(super) content: T,
    pub(super) counts: Counts,
}

/// The units of a window.
#[derive(Debug)]
pub(super) struct Units<T> {
    places: Places,
    waiting: Vec<Unit<T>>,
    /// Whose turn it was: mostly it is again.
    last: usize,
}

impl<T> Units<T> {
    pub(super) fn new() -> Self {
        Self { places: Places::default(), waiting: Vec::new(), last: 0 }
    }

    /// The unit of a record, which counts it.
    pub(super) fn of(
        &mut self,
        interface: InterfaceNumber,
        record: &Record<'_>,
        empty: impl FnOnce() -> T,
    ) -> &mut Unit<T> {
        let Self { places, waiting, last } = self;
        let (start, place) = places.of(interface, record);
        let is_its = |unit: &Unit<T>| unit.slot.start == start && Arc::ptr_eq(&unit.slot.place, place);
        if !waiting.get(*last).is_some_and(is_its) {
            *last = waiting.iter().position(is_its).unwrap_or_else(|| {
                let slot = Slot { start, place: Arc::clone(place) };
                waiting.push(Unit { slot, content: empty(), counts: Counts::default() });
                waiting.len() - 1
            });
        }
        let unit = &mut waiting[*last];
        unit.counts.add(record);
        unit
    }

    /// All of them.
    pub(super) fn into_units(self) -> impl Iterator<Item = Unit<T>> {
        self.waiting.into_iter()
    }
}
