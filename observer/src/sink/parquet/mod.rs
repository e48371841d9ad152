//! Parquet, in which a file is whole after every row group.
//!
//! Column names and types are AWS's (`FieldType`); data pages of version 1, gzip, PLAIN or `PLAIN_DICTIONARY`: what the
//! strictest reader takes. An absent value is null.

mod columns;
mod row_groups;
mod shared;

use std::{fs::File, io, mem, sync::Arc};

use parquet::file::{
    reader::{FileReader as _, Length as _},
    serialized_reader::SerializedFileReader,
};

use self::row_groups::{RowGroups, Writer};
use super::{CloseError, ObserverRef, Output, Sink, SinkOptions, files::Files, units::Units};
use crate::{
    flow::InterfaceNumber,
    record::{Batch, Context, Record},
};

/// A record and the number of its interface.
type Row<'a> = (InterfaceNumber, Record<'a>);

/// Rows of one row group at most: their columns are made one after the other, and should find them in a cache.
const ROWS: usize = 64 << 10;

/// Parquet files. Each window adds row groups.
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
                files.append(writer, &unit.slot, unit.content.as_slice(), &mem::take(&mut unit.counts));
                unit.content.clear();
            }
        }
        for unit in units.into_units() {
            if !unit.content.is_empty() {
                files.append(writer, &unit.slot, unit.content.as_slice(), &unit.counts);
            }
        }
        files.finish_before(batch.window.end);
    }

    fn close(&mut self) -> Result<(), CloseError> {
        self.files.close()
    }
}

/// Whether a file can be read: it ends with a footer, and all that this names is in the file.
pub(super) fn is_whole(file: &File) -> bool {
    let Ok(reader) = file.try_clone().map_err(Into::into).and_then(SerializedFileReader::new) else {
        return false;
    };
    let ends = |(start, length): (u64, u64)| start.checked_add(length).is_some_and(|end| end <= file.len());
    let groups = reader.metadata().row_groups();
    groups.iter().all(|group| group.columns().iter().all(|column| ends(column.byte_range())))
}
