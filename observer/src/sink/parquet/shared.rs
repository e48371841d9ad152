//! Columns whose value is the same for all records of an interface, encoded with a dictionary.
//!
//! The library would hash the text of every row. Here the interface number selects the dictionary
//! entry.

use std::{collections::HashMap, io::Write as _};

use flate2::{Compression, write::GzEncoder};
use parquet::{
    basic::{Compression as Codec, Encoding, GzipLevel},
    column::page::{CompressedPage, Page, PageWriteSpec, PageWriter},
    errors::Result,
    file::metadata::ColumnChunkMetaData,
    schema::types::ColumnDescPtr,
};

use super::row::Row;
use crate::record::{Field, Value};

/// Writer of such columns, with reused buffers.
#[derive(Debug, Default)]
pub(super) struct SharedColumns {
    /// Dictionary entry of each interface, by interface number.
    of_interfaces: Vec<InterfaceText>,
    /// Index of each text in the dictionary.
    texts: HashMap<Vec<u8>, u32>,
    /// Content of the dictionary page: each text after its length.
    dictionary: Vec<u8>,
    /// For each row, 1 if it has a text, else 0.
    present: Vec<u32>,
    /// Dictionary index of each row that has a text.
    indices: Vec<u32>,
    page: Vec<u8>,
}

/// The text that all records of an interface share.
#[derive(Clone, Copy, Debug, Default)]
enum InterfaceText {
    /// No record was seen yet.
    #[default]
    Unknown,
    /// The interface has no text.
    Absent,
    /// Dictionary index of the text.
    Text(u32),
}

impl SharedColumns {
    /// Writes a field of all rows. Returns `None` without writing if no row has a value.
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
        let sum =
            |size: fn(&PageWriteSpec) -> usize| written.iter().map(size).sum::<usize>() as i64;
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
                self.of_interfaces.resize(number + 1, InterfaceText::Unknown);
            }
            if matches!(self.of_interfaces[number], InterfaceText::Unknown) {
                self.of_interfaces[number] = self.text(field.value(record));
            }
            let known = self.of_interfaces[number];
            self.present.push(matches!(known, InterfaceText::Text(_)).into());
            if let InterfaceText::Text(text) = known {
                self.indices.push(text);
            }
        }
    }

    /// Adds a text to the dictionary, if it is new, and returns its index.
    fn text(&mut self, value: Value<'_>) -> InterfaceText {
        if value == Value::Absent {
            return InterfaceText::Absent;
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
        InterfaceText::Text(number)
    }

    /// Encodes a data page of version 1: levels after their length, then the bit width and the
    /// indices.
    fn lay_out(&mut self, texts: u32) {
        let Self { present, indices, page, .. } = self;
        page.clear();
        page.extend_from_slice(&[0; 4]);
        write_hybrid(present, 1, page);
        let levels = (page.len() - 4) as u32;
        page[..4].copy_from_slice(&levels.to_le_bytes());
        // At least one bit, because some readers reject zero.
        let bits = (u32::BITS - (texts - 1).leading_zeros()).max(1);
        page.push(bits as u8);
        write_hybrid(indices, bits, page);
    }
}

/// Gzip level, as in all other columns.
pub(super) const LEVEL: u32 = 1;

fn compressed(bytes: &[u8], page: impl FnOnce(Vec<u8>) -> Page) -> Result<CompressedPage> {
    let mut out = GzEncoder::new(Vec::with_capacity(bytes.len() / 2), Compression::new(LEVEL));
    out.write_all(bytes)?;
    Ok(CompressedPage::new(page(out.finish()?), bytes.len()))
}

/// Appends numbers of `bits` bits as one run: run-length encoded if all are equal, else bit-packed
/// in groups of eight, the lowest bit first (Parquet, "Run Length Encoding / Bit-Packing Hybrid").
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
    fn runs_match_the_specification() {
        let written = |numbers: &[u32], bits| {
            let mut out = Vec::new();
            write_hybrid(numbers, bits, &mut out);
            out
        };
        // The example of the specification: the numbers 0 to 7 in three bits each.
        assert_eq!(
            written(&[0, 1, 2, 3, 4, 5, 6, 7], 3),
            [3, 0b1000_1000, 0b1100_0110, 0b1111_1010]
        );
        assert_eq!(written(&[5; 200], 3), [0x90, 0x03, 5]);
        assert_eq!(written(&[0x1234; 2], 17), [4, 0x34, 0x12, 0]);
        // The last group is padded with zeros.
        assert_eq!(written(&[1, 0, 1], 1), [3, 0b101]);
        assert_eq!(written(&[0, 1, 0, 0, 0, 0, 0, 0, 1], 1), [5, 0b10, 1]);
    }
}
