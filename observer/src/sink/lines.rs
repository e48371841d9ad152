//! Records of a batch, rendered one after the other and gathered by their files.

use std::mem;

use super::{Counts, direct::BLOCK, place::Slot, units::Units};
use crate::{
    flow::InterfaceNumber,
    record::{Batch, Context, Record},
};

/// Bytes of lines in one unit, where many wait at a time: few enough to stay in a processor's cache until another thread
/// takes them.
pub(super) const UNIT: usize = 512 << 10;

/// Lines that lie in memory, within a block, as they will lie in their file: so the disk can take them from there.
#[derive(Debug)]
pub(super) struct Lines {
    /// Filler, then the lines.
    bytes: Vec<u8>,
    filler: usize,
}

impl Lines {
    /// None yet, with room for those of a unit of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        // Of most records, the longest line.
        const LINE: usize = 8 << 10;
        let mut lines = Self { bytes: Vec::with_capacity(BLOCK + size + LINE), filler: 0 };
        lines.restart(0);
        lines
    }

    /// Drops all lines; the next will lie at this place of their file.
    pub(super) fn restart(&mut self, place: u64) {
        self.filler = (place as usize).wrapping_sub(self.bytes.as_ptr().addr()) % BLOCK;
        self.bytes.clear();
        self.bytes.resize(self.filler, b'\n');
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.filler..]
    }
}

/// Renders all records of a batch and hands over what is gathered, in units of `size` bytes; `take` may keep the lines and
/// leave others, and says where in their file the next ones will lie.
pub(super) fn gather(
    batch: &Batch,
    context: &Context,
    size: usize,
    mut render: impl FnMut(InterfaceNumber, &Record<'_>, &mut Vec<u8>),
    mut take: impl FnMut(&Slot, &mut Lines, &Counts) -> u64,
) {
    let mut units = Units::new();
    for (interface, record) in batch.records(context) {
        let unit = units.of(interface, &record, || Lines::new(size));
        render(interface, &record, &mut unit.content.bytes);
        if unit.content.bytes.len() >= size {
            let place = take(&unit.slot, &mut unit.content, &mem::take(&mut unit.counts));
            unit.content.restart(place);
        }
    }
    for mut unit in units.into_units() {
        if !unit.content.as_slice().is_empty() {
            take(&unit.slot, &mut unit.content, &unit.counts);
        }
    }
}
