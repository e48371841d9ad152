use std::collections::BTreeSet;

use crate::{
    flow::{InterfaceNumber, Room},
    record::Batch,
};

/// Records of a closed window, held until their interfaces are identified.
#[derive(Debug)]
pub(super) struct Held(Batch);

impl Held {
    /// Moves the records of the `waiting` interfaces out of a batch.
    pub(super) fn split(
        batch: &mut Batch,
        waiting: &BTreeSet<InterfaceNumber>,
        room: &Room,
    ) -> Self {
        let mut held = batch.split_off(waiting);
        let of_owners = batch.room.1.clone();
        batch.room = (Some(room.claim(batch.flows.in_memory())), of_owners.clone());
        held.room = (Some(room.claim(held.flows.in_memory())), of_owners);
        Self(held)
    }

    /// True if the records must still be held for one of these interfaces.
    pub(super) fn is_for(&self, waiting: &BTreeSet<InterfaceNumber>) -> bool {
        self.0.subjects.keys().any(|number| waiting.contains(number))
    }

    /// Numbers of the interfaces in the records.
    pub(super) fn numbers(&self) -> impl Iterator<Item = InterfaceNumber> {
        self.0.subjects.keys().copied()
    }

    /// Returns the records to write.
    pub(super) fn release(self) -> Batch {
        self.0
    }
}
