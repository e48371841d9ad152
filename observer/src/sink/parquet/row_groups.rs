use std::{io, mem, sync::Arc};

use parquet::{
    basic::{Compression, GzipLevel},
    errors::{ParquetError, Result},
    file::{
        metadata::{FileMetaData, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData},
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion},
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnPath, SchemaDescPtr, SchemaDescriptor, TypePtr},
};

use super::{
    Row,
    columns::{Columns, io_error, schema},
};
use crate::{
    record::{Field, Format},
    sink::files::{Encoded, Encoding},
};

/// Writes row groups and footers.
#[derive(Debug)]
pub(super) struct Writer {
    fields: Vec<Field>,
    schema: TypePtr,
    descriptor: SchemaDescPtr,
    properties: WriterPropertiesPtr,
    columns: Columns,
    out: Vec<u8>,
}

/// The row groups of a file, each with its place.
pub(super) type RowGroups = Vec<Arc<RowGroupMetaData>>;

/// What a file begins with.
const MAGIC: &[u8] = b"PAR1";
const CREATED_BY: &str = concat!("observer ", env!("CARGO_PKG_VERSION"));

impl Writer {
    pub(super) fn new(format: &Format) -> io::Result<Self> {
        let schema = schema(format).map_err(io_error)?;
        let level = GzipLevel::try_new(1).map_err(io_error)?;
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::GZIP(level))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true);
        // By which readers skip what is outside of the time they ask for.
        for field in [Field::Start, Field::End] {
            let column = ColumnPath::from(field.key());
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
        }
        Ok(Self {
            fields: format.fields().to_vec(),
            descriptor: Arc::new(SchemaDescriptor::new(Arc::clone(&schema))),
            schema,
            properties: Arc::new(properties.build()),
            columns: Columns::default(),
            out: Vec::new(),
        })
    }

    /// Appends a row group to `out`, as the first after the magic; its offsets are moved to where it will lie.
    fn row_group(&mut self, rows: &[Row<'_>], offset: u64) -> Result<Arc<RowGroupMetaData>> {
        let out = mem::take(&mut self.out);
        let mut file =
            SerializedFileWriter::new(out, Arc::clone(&self.schema), Arc::clone(&self.properties))?;
        let mut group = file.next_row_group()?;
        for field in &self.fields {
            let mut column =
                group.next_column()?.ok_or_else(|| ParquetError::General("a column is missing".into()))?;
            self.columns.write(*field, rows, &mut column)?;
            column.close()?;
        }
        let metadata = group.close()?;
        file.flush()?;
        self.out = mem::take(file.inner_mut());
        // It was written behind a magic, which only the first one has before it.
        let by = offset.saturating_sub(MAGIC.len() as u64) as i64;
        moved(&metadata, by).map(Arc::new)
    }

    /// Appends what ends a file of these row groups.
    fn footer(&mut self, groups: &RowGroups) -> Result<()> {
        let rows = groups.iter().map(|group| group.num_rows()).sum();
        let file =
            FileMetaData::new(1, rows, Some(CREATED_BY.into()), None, Arc::clone(&self.descriptor), None);
        let groups = groups.iter().map(|group| RowGroupMetaData::clone(group)).collect();
        ParquetMetaDataWriter::new(&mut self.out, &ParquetMetaData::new(file, groups)).finish()
    }
}

fn moved(group: &RowGroupMetaData, by: i64) -> Result<RowGroupMetaData> {
    let columns = group.columns().iter().map(|column| {
        let moved = column.clone().into_builder();
        moved
            .set_data_page_offset(column.data_page_offset() + by)
            .set_dictionary_page_offset(column.dictionary_page_offset().map(|offset| offset + by))
            .build()
    });
    let columns = columns.collect::<Result<_>>()?;
    let offset = group.file_offset().unwrap_or_default() + by;
    group.clone().into_builder().set_column_metadata(columns).set_file_offset(offset).build()
}

impl<'r> Encoding<[Row<'r>]> for Writer {
    type State = RowGroups;

    fn encode<'a>(
        &'a mut self,
        state: &RowGroups,
        offset: u64,
        unit: &'a [Row<'r>],
    ) -> io::Result<Encoded<'a, RowGroups>> {
        self.out.clear();
        let group = self.row_group(unit, offset).map_err(io_error)?;
        let mut state = state.clone();
        state.push(group);
        let mut body = self.out.len();
        self.footer(&state).map_err(io_error)?;
        let mut bytes = &self.out[..];
        if offset > 0 {
            bytes = &bytes[MAGIC.len()..];
            body -= MAGIC.len();
        }
        Ok(Encoded { bytes, body, state })
    }
}
