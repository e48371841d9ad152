//! Records that wait until it is known whose they are.

use std::{collections::BTreeSet, mem, sync::Arc};

use crate::{
    flow::{InterfaceNumber, Room, Table},
    record::Batch,
};

/// What a closed window holds of interfaces of which it may yet become known whose they are.
#[derive(Debug)]
pub(super) struct Held(pub(super) Batch);

impl Held {
    /// Takes what a batch holds of these interfaces out of it.
    pub(super) fn split(batch: &mut Batch, waiting: &BTreeSet<InterfaceNumber>, room: &Room) -> Self {
        let (mut ready, mut held) = (Table::new(), Table::new());
        // Memory has no room for all of them twice.
        for flow in mem::take(&mut batch.flows).into_flows() {
            let table = if waiting.contains(&flow.key.interface()) { &mut held } else { &mut ready };
            table.add(&flow);
        }
        let of_owners = batch.room.1.clone();
        batch.room = (Some(room.claim(ready.in_memory())), of_owners.clone());
        let room = (Some(room.claim(held.in_memory())), of_owners);
        batch.flows = ready;
        let subjects = batch.subjects.iter().filter(|(number, _)| waiting.contains(number));
        Self(Batch {
            flows: held,
            // Those that stay lose nothing by being named twice: no record of theirs is left.
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

    /// Whether one of its interfaces is among those that wait.
    pub(super) fn waits(&self, waiting: &BTreeSet<InterfaceNumber>) -> bool {
        self.0.subjects.keys().any(|number| waiting.contains(number))
    }
}
