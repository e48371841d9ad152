//! Parquet files, checked against the combined restrictions of their strictest readers.
//!
//! `flowlogs-reader` supports gzip, data pages of version 1, and values in plain encoding or a
//! plain dictionary. Athena trusts a column's declared type. Vector and Filebeat refuse unknown
//! columns.

use std::{fs::File, path::Path};

use anyhow::{Context as _, Result, bail, ensure};
use parquet::{
    basic::{Compression, Encoding, Type},
    column::page::Page,
    file::{reader::FileReader as _, serialized_reader::SerializedFileReader},
    record::Field,
};

/// The sum of a column.
pub fn sum(path: &Path, column: &str) -> Result<u64> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut sum = 0;
    for row in reader.get_row_iter(None)? {
        let row = row?;
        let (_, value) =
            row.get_column_iter().find(|(name, _)| *name == column).context("the column")?;
        sum += match value {
            Field::Null => 0,
            Field::Int(number) => u64::try_from(*number)?,
            Field::Long(number) => u64::try_from(*number)?,
            other => bail!("{column} is {other}"),
        };
    }
    Ok(sum)
}

/// Encodings of a column's data pages, by row group.
pub fn encodings(path: &Path, column: &str) -> Result<Vec<Vec<String>>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let columns = reader.metadata().file_metadata().schema_descr().columns().iter();
    let at = columns.clone().position(|found| found.name() == column).context("the column")?;
    let group = |number| {
        let mut pages = reader.get_row_group(number)?.get_column_page_reader(at)?;
        let mut encodings = Vec::new();
        while let Some(page) = pages.get_next_page()? {
            if page.is_data_page() {
                encodings.push(page.encoding().to_string());
            }
        }
        Ok(encodings)
    };
    (0..reader.metadata().num_row_groups()).map(group).collect()
}

/// Checks a file's format, and returns its columns with their physical types.
pub fn columns(path: &Path) -> Result<Vec<(String, Type)>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let metadata = reader.metadata();
    ensure!(
        metadata.file_metadata().version() == 1,
        "format {}",
        metadata.file_metadata().version()
    );
    for number in 0..metadata.num_row_groups() {
        let group = reader.get_row_group(number)?;
        for (at, column) in group.metadata().columns().iter().enumerate() {
            let name = column.column_path();
            ensure!(
                matches!(column.compression(), Compression::GZIP(_)),
                "{name}: {}",
                column.compression()
            );
            let mut pages = group.get_column_page_reader(at)?;
            while let Some(page) = pages.get_next_page()? {
                let encoding = match &page {
                    Page::DataPage { encoding, def_level_encoding, .. } => {
                        ensure!(
                            *def_level_encoding == Encoding::RLE,
                            "{name}: levels by {def_level_encoding}"
                        );
                        encoding
                    }
                    Page::DictionaryPage { encoding, .. } => encoding,
                    Page::DataPageV2 { .. } => bail!("{name}: a page of version 2"),
                };
                let known = [Encoding::PLAIN, Encoding::PLAIN_DICTIONARY];
                ensure!(known.contains(encoding), "{name}: values by {encoding}");
            }
        }
    }
    let schema = metadata.file_metadata().schema_descr();
    let columns = schema.columns().iter();
    Ok(columns.map(|column| (column.name().to_owned(), column.physical_type())).collect())
}
