use std::{collections::BTreeSet, mem, sync::Arc};

use crate::{
    flow::{InterfaceNumber, Room, Table},
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
        let (mut ready, mut held) = (Table::new(), Table::new());
        // Flow by flow, because memory may not have room for all of them twice.
        for flow in mem::take(&mut batch.flows).into_flows() {
            let table =
                if waiting.contains(&flow.key.interface()) { &mut held } else { &mut ready };
            table.add(&flow);
        }
        let of_owners = batch.room.1.clone();
        batch.room = (Some(room.claim(ready.in_memory())), of_owners.clone());
        let room = (Some(room.claim(held.in_memory())), of_owners);
        batch.flows = ready;
        let subjects = batch.subjects.iter().filter(|(number, _)| waiting.contains(number));
        Self(Batch {
            flows: held,
            // The batch keeps these subjects too. None of its remaining records uses them.
            subjects: subjects.map(|(number, subject)| (*number, subject.clone())).collect(),
            owners: Arc::clone(&batch.owners),
            room,
            silent: batch.silent.extract_if(.., |number| waiting.contains(number)).collect(),
            lossy: batch.lossy.extract_if(.., |(number, _)| waiting.contains(number)).collect(),
            gaps: batch.gaps.extract_if(.., |(number, _)| waiting.contains(number)).collect(),
            mark: batch.mark.clone(),
            ..Batch::new(batch.window)
        })
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
