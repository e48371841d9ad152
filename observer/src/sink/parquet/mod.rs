//! The output of Parquet to files. A file is complete after every row group.
//!
//! Column names and types are AWS's (`FieldType`). Data pages have version 1, gzip, and PLAIN or
//! `PLAIN_DICTIONARY` encoding, as the strictest readers require. An absent value is null.

mod columns;
mod row;
mod row_groups;
mod shared;

use std::{fs::File, io, mem, sync::Arc};

use parquet::file::{
    reader::{FileReader as _, Length as _},
    serialized_reader::SerializedFileReader,
};

use self::{
    row::Row,
    row_groups::{RowGroups, Writer},
};
use super::{
    files::Files,
    observer::ObserverRef,
    options::SinkOptions,
    output::{CloseError, Output, Sink},
    units::Units,
};
use crate::record::{Batch, Context};

/// Maximum number of rows in a row group. Columns are encoded one after the other, so the rows
/// should fit a CPU cache.
const ROWS: usize = 64 << 10;

/// The output of Parquet to files. Each window adds row groups.
#[derive(Debug)]
pub(super) struct ParquetSink {
    context: Arc<Context>,
    files: Files<RowGroups>,
    writer: Writer,
}

impl ParquetSink {
    pub(super) fn new(options: &SinkOptions, observer: ObserverRef) -> io::Result<Self> {
        Ok(Self {
            context: Arc::clone(&options.context),
            files: Files::new(Output::Parquet, options, observer),
            writer: Writer::new(&options.context.format)?,
        })
    }
}

impl Sink for ParquetSink {
    fn write(&mut self, batch: &Batch) {
        let Self { context, files, writer } = self;
        let mut units = Units::<Vec<Row<'_>>>::new();
        for (interface, record) in batch.records(context) {
            let unit = units.of(interface, &record, Vec::new);
            unit.content.push((interface, record));
            if unit.content.len() == ROWS {
                files.append(
                    writer,
                    &unit.slot,
                    unit.content.as_slice(),
                    &mem::take(&mut unit.counts),
                );
                unit.content.clear();
            }
        }
        for unit in units.into_units() {
            if !unit.content.is_empty() {
                files.append(writer, &unit.slot, unit.content.as_slice(), &unit.counts);
            }
        }
        files.end_batch(batch.id, batch.window.end);
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.files.close()
    }
}

/// True if the file has a footer, and all data that the footer names lies within the file.
pub(super) fn is_whole(file: &File) -> bool {
    let Ok(reader) = file.try_clone().map_err(Into::into).and_then(SerializedFileReader::new)
    else {
        return false;
    };
    let ends = |(start, length): (u64, u64)| {
        start.checked_add(length).is_some_and(|end| end <= file.len())
    };
    let groups = reader.metadata().row_groups();
    groups.iter().all(|group| group.columns().iter().all(|column| ends(column.byte_range())))
}
