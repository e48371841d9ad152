//! Rendering the records of a batch as lines, gathered by file.

use std::mem;

use super::{counts::Counts, direct::BLOCK, slot::Slot, units::Units};
use crate::{
    flow::InterfaceNumber,
    record::{Batch, Context, Record},
};

/// Size of a unit in bytes for outputs that queue units: small enough to stay in the CPU's cache
/// until another thread takes it.
pub(super) const UNIT: usize = 512 << 10;

/// A buffer of lines whose address is aligned like the lines' offset in the file, so that the disk
/// can read it directly.
#[derive(Debug)]
pub(super) struct Lines {
    /// Padding, then the lines.
    bytes: Vec<u8>,
    filler: usize,
}

impl Lines {
    /// Creates an empty buffer for a unit of `size` bytes.
    pub(super) fn new(size: usize) -> Self {
        // Length of the longest line for nearly all records.
        const LINE: usize = 8 << 10;
        let mut lines = Self { bytes: Vec::with_capacity(BLOCK + size + LINE), filler: 0 };
        lines.restart(0);
        lines
    }

    /// Clears the buffer, and aligns it for lines at this offset of their file.
    pub(super) fn restart(&mut self, place: u64) {
        self.filler = (place as usize).wrapping_sub(self.bytes.as_ptr().addr()) % BLOCK;
        self.bytes.clear();
        self.bytes.resize(self.filler, b'\n');
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.filler..]
    }
}

/// Renders all records of a batch and passes them to `take` in units of about `size` bytes. `take`
/// may exchange the buffer, and returns the file offset of the next unit.
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
