//! Records of a batch, rendered one after the other and gathered by their files.

use std::mem;

use super::{Counts, place::Slot, units::Units};
use crate::{
    flow::InterfaceNumber,
    record::{Batch, Context, Record},
};

/// Bytes of lines in one unit: few enough to stay in the processor's cache until they are written.
pub(super) const UNIT: usize = 256 << 10;

/// Renders all records of a batch and hands over what is gathered; `take` may keep the bytes and leave others.
pub(super) fn gather(
    batch: &Batch,
    context: &Context,
    mut render: impl FnMut(InterfaceNumber, &Record<'_>, &mut Vec<u8>),
    mut take: impl FnMut(&Slot, &mut Vec<u8>, &Counts),
) {
    let mut units = Units::new();
    for (interface, record) in batch.records(context) {
        let unit = units.of(interface, &record, buffer);
        render(interface, &record, &mut unit.content);
        if unit.content.len() >= UNIT {
            take(&unit.slot, &mut unit.content, &mem::take(&mut unit.counts));
            unit.content.clear();
        }
    }
    for mut unit in units.into_units() {
        if !unit.content.is_empty() {
            take(&unit.slot, &mut unit.content, &unit.counts);
        }
    }
}

/// Room for a unit and the line that fills it.
pub(super) fn buffer() -> Vec<u8> {
    const LINE: usize = 8 << 10;
    Vec::with_capacity(UNIT + LINE)
}
