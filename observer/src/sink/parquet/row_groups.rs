use std::{
    io::{self, Write as _},
    mem,
    sync::Arc,
};

use parquet::{
    basic::{Compression, Encoding as PageEncoding, GzipLevel, PageType},
    column::{
        page::{CompressedPage, Page, PageWriteSpec, PageWriter},
        writer::get_column_writer,
    },
    errors::Result,
    file::{
        metadata::{
            ColumnChunkMetaData, FileMetaData, ParquetMetaData, ParquetMetaDataWriter,
            RowGroupMetaData,
        },
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr, WriterVersion},
        writer::{SerializedPageWriter, TrackedWrite},
    },
    schema::types::{ColumnPath, SchemaDescPtr, SchemaDescriptor},
};

use super::{
    columns::{Columns, io_error, schema},
    row::Row,
    shared::{LEVEL, SharedColumns},
};
use crate::{
    record::{Field, FieldType, Format, Origin},
    sink::files::{Encoded, Encoding},
};

/// Encoder of row groups and footers.
#[derive(Debug)]
pub(super) struct Writer {
    fields: Vec<Field>,
    descriptor: SchemaDescPtr,
    properties: WriterPropertiesPtr,
    columns: Columns,
    shared: SharedColumns,
    out: Vec<u8>,
}

/// Metadata of the row groups of a file, with their offsets.
pub(super) type RowGroups = Vec<Arc<RowGroupMetaData>>;

/// First bytes of a file.
const MAGIC: &[u8] = b"PAR1";
const CREATED_BY: &str = concat!("observer ", env!("CARGO_PKG_VERSION"));

impl Writer {
    pub(super) fn new(format: &Format) -> io::Result<Self> {
        let schema = schema(format).map_err(io_error)?;
        let level = GzipLevel::try_new(LEVEL).map_err(io_error)?;
        let mut properties = WriterProperties::builder()
            .set_writer_version(WriterVersion::PARQUET_1_0)
            .set_compression(Compression::GZIP(level))
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true);
        // Readers use these statistics to skip row groups outside the requested time.
        for field in [Field::Start, Field::End] {
            let column = ColumnPath::from(field.key());
            properties = properties.set_column_statistics_enabled(column, EnabledStatistics::Chunk);
        }
        Ok(Self {
            fields: format.fields().to_vec(),
            descriptor: Arc::new(SchemaDescriptor::new(schema)),
            properties: Arc::new(properties.build()),
            columns: Columns::default(),
            shared: SharedColumns::default(),
            out: Vec::new(),
        })
    }

    /// Appends a row group to `out`, after a magic, and shifts its offsets to its place in the
    /// file.
    fn row_group(&mut self, rows: &[Row<'_>], offset: u64) -> Result<Arc<RowGroupMetaData>> {
        // The row group follows a magic in `out`; in the file only the first one does.
        let by = offset.saturating_sub(MAGIC.len() as u64) as i64;
        let mut out = TrackedWrite::new(mem::take(&mut self.out));
        out.write_all(MAGIC)?;
        let start = out.bytes_written();
        let mut columns = Vec::with_capacity(self.fields.len());
        for (number, field) in self.fields.iter().enumerate() {
            let description = self.descriptor.column(number);
            let mut pages = Box::new(Pages(SerializedPageWriter::new(&mut out)));
            let is_shared = field.field_type() == FieldType::String
                && matches!(field.origin(), Origin::Subject | Origin::Beyond);
            if is_shared
                && let Some(column) =
                    self.shared.write(*field, rows, Arc::clone(&description), &mut *pages)?
            {
                columns.push(moved(column, by)?);
                continue;
            }
            let mut column = get_column_writer(description, Arc::clone(&self.properties), pages);
            if is_shared {
                self.columns.write_absent(rows, &mut column)?;
            } else {
                self.columns.write(*field, rows, &mut column)?;
            }
            columns.push(moved(column.close()?.metadata, by)?);
        }
        let size = columns.iter().map(ColumnChunkMetaData::uncompressed_size).sum();
        self.out = out.into_inner()?;
        let group = RowGroupMetaData::builder(Arc::clone(&self.descriptor))
            .set_column_metadata(columns)
            .set_num_rows(rows.len() as i64)
            .set_total_byte_size(size)
            .set_file_offset(start as i64 + by);
        group.build().map(Arc::new)
    }

    /// Appends the footer of a file with these row groups.
    fn footer(&mut self, groups: &RowGroups) -> Result<()> {
        let rows = groups.iter().map(|group| group.num_rows()).sum();
        let file = FileMetaData::new(
            1,
            rows,
            Some(CREATED_BY.into()),
            None,
            Arc::clone(&self.descriptor),
            None,
        );
        let groups = groups.iter().map(|group| RowGroupMetaData::clone(group)).collect();
        ParquetMetaDataWriter::new(&mut self.out, &ParquetMetaData::new(file, groups)).finish()
    }
}

/// Page writer with the encoding names of format version 1.
///
/// The library calls the dictionary indices `RLE_DICTIONARY`, as later versions do, and the
/// dictionary `PLAIN`. The bytes are the same (Parquet, "Encodings").
struct Pages<'a>(SerializedPageWriter<'a, Vec<u8>>);

impl PageWriter for Pages<'_> {
    fn write_page(&mut self, page: CompressedPage) -> Result<PageWriteSpec> {
        let size = page.uncompressed_size();
        let mut content = page.compressed_page().clone();
        if let Page::DataPage { encoding, .. } | Page::DictionaryPage { encoding, .. } =
            &mut content
        {
            *encoding = match (*encoding, page.page_type()) {
                (_, PageType::DICTIONARY_PAGE) => OLD_DICTIONARY,
                (encoding, _) => old(encoding),
            };
        }
        self.0.write_page(CompressedPage::new(content, size))
    }

    fn close(&mut self) -> Result<()> {
        self.0.close()
    }
}

const OLD_DICTIONARY: PageEncoding = PageEncoding::PLAIN_DICTIONARY;

fn old(encoding: PageEncoding) -> PageEncoding {
    if encoding == PageEncoding::RLE_DICTIONARY { OLD_DICTIONARY } else { encoding }
}

/// Shifts the offsets of a column by `by` bytes.
fn moved(column: ColumnChunkMetaData, by: i64) -> Result<ColumnChunkMetaData> {
    let encodings = column.encodings().map(old).collect();
    let (data, dictionary) = (column.data_page_offset(), column.dictionary_page_offset());
    column
        .into_builder()
        .set_data_page_offset(data + by)
        .set_dictionary_page_offset(dictionary.map(|offset| offset + by))
        .set_encodings(encodings)
        .clear_page_encoding_stats()
        .build()
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
