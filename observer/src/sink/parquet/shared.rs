//! Columns in which all records of an interface say the same: a dictionary of the texts, and which of them each row has.
//!
//! The library would hash the text of every row to find that it knows it; here the interface's number tells.

use std::{collections::HashMap, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use parquet::{
    basic::{Compression as Codec, Encoding, GzipLevel},
    column::page::{CompressedPage, Page, PageWriteSpec, PageWriter},
    errors::Result,
    file::metadata::ColumnChunkMetaData,
    schema::types::ColumnDescPtr,
};

use super::Row;
use crate::record::{Field, Value};

/// Makes such columns, in memory that is used again.
#[derive(Debug, Default)]
pub(super) struct SharedColumns {
    /// The texts of the interfaces, by their numbers.
    of_interfaces: Vec<OfInterface>,
    /// The number of each text.
    texts: HashMap<Vec<u8>, u32>,
    /// The texts as a dictionary page has them: each behind its length.
    dictionary: Vec<u8>,
    /// For each row, whether it has a text.
    present: Vec<u32>,
    /// For each row that has one, which.
    indices: Vec<u32>,
    page: Vec<u8>,
}

/// A text that all records of an interface have.
#[derive(Clone, Copy, Debug, Default)]
enum OfInterface {
    /// No record has told it yet.
    #[default]
    Unknown,
    /// There is none.
    Absent,
    /// That of this number.
    Text(u32),
}

impl SharedColumns {
    /// Writes a field of all rows; nothing where no row has a value.
    pub(super) fn write(
        &mut self,
        field: Field,
        rows: &[Row<'_>],
        column: ColumnDescPtr,
        pages: &mut dyn PageWriter,
    ) -> Result<Option<ColumnChunkMetaData>> {
        self.gather(field, rows);
        if self.indices.is_empty() {
            return Ok(None);
        }
        let texts = self.texts.len() as u32;
        let dictionary = compressed(&self.dictionary, |buf| Page::DictionaryPage {
            buf: buf.into(),
            num_values: texts,
            encoding: Encoding::PLAIN_DICTIONARY,
            is_sorted: false,
        })?;
        self.lay_out(texts);
        let data = compressed(&self.page, |buf| Page::DataPage {
            buf: buf.into(),
            num_values: rows.len() as u32,
            encoding: Encoding::PLAIN_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        })?;
        let written = [pages.write_page(dictionary)?, pages.write_page(data)?];
        let sum = |size: fn(&PageWriteSpec) -> usize| written.iter().map(size).sum::<usize>() as i64;
        let chunk = ColumnChunkMetaData::builder(column)
            .set_compression(Codec::GZIP(GzipLevel::try_new(LEVEL)?))
            .set_encodings(vec![Encoding::PLAIN_DICTIONARY, Encoding::RLE])
            .set_num_values(rows.len() as i64)
            .set_total_compressed_size(sum(|page| page.compressed_size))
            .set_total_uncompressed_size(sum(|page| page.uncompressed_size))
            .set_dictionary_page_offset(Some(written[0].offset as i64))
            .set_data_page_offset(written[1].offset as i64);
        chunk.build().map(Some)
    }

    fn gather(&mut self, field: Field, rows: &[Row<'_>]) {
        self.of_interfaces.clear();
        self.texts.clear();
        self.dictionary.clear();
        self.present.clear();
        self.indices.clear();
        for (interface, record) in rows {
            let number = usize::from(interface.get());
            if number >= self.of_interfaces.len() {
                self.of_interfaces.resize(number + 1, OfInterface::Unknown);
            }
            if matches!(self.of_interfaces[number], OfInterface::Unknown) {
                self.of_interfaces[number] = self.text(field.value(record));
            }
            let known = self.of_interfaces[number];
            self.present.push(matches!(known, OfInterface::Text(_)).into());
            if let OfInterface::Text(text) = known {
                self.indices.push(text);
            }
        }
    }

    /// The number of a text, which is new or another interface's too.
    fn text(&mut self, value: Value<'_>) -> OfInterface {
        if value == Value::Absent {
            return OfInterface::Absent;
        }
        let mut text = Vec::new();
        value.write_bare(&mut text);
        let next = self.texts.len() as u32;
        let length = text.len() as u32;
        let number = *self.texts.entry(text).or_insert_with_key(|text| {
            self.dictionary.extend_from_slice(&length.to_le_bytes());
            self.dictionary.extend_from_slice(text);
            next
        });
        OfInterface::Text(number)
    }

    /// A data page of version 1: levels behind their length, then the bits of an index and the indices.
    fn lay_out(&mut self, texts: u32) {
        let Self { present, indices, page, .. } = self;
        page.clear();
        page.extend_from_slice(&[0; 4]);
        write_hybrid(present, 1, page);
        let levels = (page.len() - 4) as u32;
        page[..4].copy_from_slice(&levels.to_le_bytes());
        // Never none, which not every reader takes.
        let bits = (u32::BITS - (texts - 1).leading_zeros()).max(1);
        page.push(bits as u8);
        write_hybrid(indices, bits, page);
    }
}

/// Of gzip: as in all other columns.
pub(super) const LEVEL: u32 = 1;

fn compressed(bytes: &[u8], page: impl FnOnce(Vec<u8>) -> Page) -> Result<CompressedPage> {
    let mut out = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::new(LEVEL));
    out.write_all(bytes)?;
    Ok(CompressedPage::new(page(out.finish()?), bytes.len()))
}

/// Appends numbers of so many bits as one run: of one number where they are all the same, else packed, the lowest bit
/// first, in groups of eight (Parquet, "Run Length Encoding / Bit-Packing Hybrid").
fn write_hybrid(numbers: &[u32], bits: u32, out: &mut Vec<u8>) {
    let Some((first, others)) = numbers.split_first() else { return };
    if others.iter().all(|other| other == first) {
        write_varint(numbers.len() as u64 * 2, out);
        out.extend_from_slice(&first.to_le_bytes()[..bits.div_ceil(8) as usize]);
        return;
    }
    let groups = numbers.len().div_ceil(8);
    write_varint(groups as u64 * 2 + 1, out);
    let end = out.len() + groups * bits as usize;
    let (mut waiting, mut count) = (0_u64, 0);
    for number in numbers {
        waiting |= u64::from(*number) << count;
        count += bits;
        while count >= 8 {
            out.push(waiting as u8);
            waiting >>= 8;
            count -= 8;
        }
    }
    out.push(waiting as u8);
    out.resize(end, 0);
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_those_of_the_format() {
        let written = |numbers: &[u32], bits| {
            let mut out = Vec::new();
            write_hybrid(numbers, bits, &mut out);
            out
        };
        // The example of the format: the numbers 0 to 7 in three bits each.
        assert_eq!(written(&[0, 1, 2, 3, 4, 5, 6, 7], 3), [3, 0b1000_1000, 0b1100_0110, 0b1111_1010]);
        assert_eq!(written(&[5; 200], 3), [0x90, 0x03, 5]);
        assert_eq!(written(&[0x1234; 2], 17), [4, 0x34, 0x12, 0]);
        // The last group is filled up.
        assert_eq!(written(&[1, 0, 1], 1), [3, 0b101]);
        assert_eq!(written(&[0, 1, 0, 0, 0, 0, 0, 0, 1], 1), [5, 0b10, 1]);
    }
}
