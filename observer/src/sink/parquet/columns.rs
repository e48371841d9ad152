//! Columns of rows: the values of one field, with a level that marks absent ones.

use std::io;

use parquet::{
    basic::{ConvertedType, LogicalType, Repetition, Type as PhysicalType},
    column::writer::{ColumnWriter, get_typed_column_writer_mut},
    data_type::{ByteArray, ByteArrayType, DataType, Int32Type, Int64Type},
    errors::Result,
    schema::types::{Type, TypePtr},
};

use super::row::Row;
use crate::record::{Field, FieldType, Format, Value};

/// Parquet schema of a format.
pub(super) fn schema(format: &Format) -> Result<TypePtr> {
    let column = |field: &Field| {
        let (physical, converted, logical) = match field.field_type() {
            FieldType::Int32 => (PhysicalType::INT32, ConvertedType::NONE, None),
            FieldType::Int64 => (PhysicalType::INT64, ConvertedType::NONE, None),
            FieldType::String => {
                (PhysicalType::BYTE_ARRAY, ConvertedType::UTF8, Some(LogicalType::String))
            }
        };
        Type::primitive_type_builder(field.key(), physical)
            .with_repetition(Repetition::OPTIONAL)
            .with_converted_type(converted)
            .with_logical_type(logical)
            .build()
            .map(TypePtr::new)
    };
    let columns = format.fields().iter().map(column).collect::<Result<_>>()?;
    Ok(TypePtr::new(Type::group_type_builder("schema").with_fields(columns).build()?))
}

/// Writer of columns, with reused buffers.
#[derive(Debug, Default)]
pub(super) struct Columns {
    levels: Vec<i16>,
    int32: Vec<i32>,
    int64: Vec<i64>,
    texts: Vec<ByteArray>,
    /// End of each text of a column.
    ends: Vec<usize>,
}

impl Columns {
    /// Writes a column without values.
    pub(super) fn write_absent(
        &mut self,
        rows: &[Row<'_>],
        column: &mut ColumnWriter<'_>,
    ) -> Result<()> {
        self.levels.clear();
        self.levels.resize(rows.len(), 0);
        write::<ByteArrayType>(column, &[], &self.levels)
    }

    /// Writes a field of all rows.
    pub(super) fn write(
        &mut self,
        field: Field,
        rows: &[Row<'_>],
        column: &mut ColumnWriter<'_>,
    ) -> Result<()> {
        let Self { levels, int32, int64, texts, .. } = self;
        levels.clear();
        match field.field_type() {
            FieldType::Int32 => {
                numbers(field, rows, levels, int32);
                write::<Int32Type>(column, int32, levels)
            }
            FieldType::Int64 => {
                numbers(field, rows, levels, int64);
                write::<Int64Type>(column, int64, levels)
            }
            FieldType::String => {
                texts.clear();
                self.texts(field, rows);
                write::<ByteArrayType>(column, &self.texts, &self.levels)
            }
        }
    }

    fn texts(&mut self, field: Field, rows: &[Row<'_>]) {
        let mut all = Vec::with_capacity(rows.len() * TYPICAL);
        self.ends.clear();
        for (_, record) in rows {
            let value = field.value(record);
            self.levels.push((value != Value::Absent).into());
            if value != Value::Absent {
                value.write_bare(&mut all);
                self.ends.push(all.len());
            }
        }
        let all = ByteArray::from(all);
        let mut start = 0;
        self.texts.extend(self.ends.iter().map(|end| {
            let text = all.slice(start, end - start);
            start = *end;
            text
        }));
    }
}

/// Bytes of a typical text: an IPv4 address.
const TYPICAL: usize = 14;

fn numbers<T: Clamped>(
    field: Field,
    rows: &[Row<'_>],
    levels: &mut Vec<i16>,
    numbers: &mut Vec<T>,
) {
    numbers.clear();
    for (_, record) in rows {
        let value = field.value(record);
        levels.push((value != Value::Absent).into());
        if let Value::Number(number) = value {
            numbers.push(T::clamped(number));
        }
    }
}

/// Conversion to AWS's signed types, limited to their range.
trait Clamped {
    fn clamped(number: u64) -> Self;
}

impl Clamped for i32 {
    fn clamped(number: u64) -> Self {
        number.try_into().unwrap_or(Self::MAX)
    }
}

impl Clamped for i64 {
    fn clamped(number: u64) -> Self {
        number.try_into().unwrap_or(Self::MAX)
    }
}

fn write<T: DataType>(
    column: &mut ColumnWriter<'_>,
    values: &[T::T],
    levels: &[i16],
) -> Result<()> {
    get_typed_column_writer_mut::<T>(column).write_batch(values, Some(levels), None)?;
    Ok(())
}

/// Converts an error of the encoder. Writing to memory does not fail.
pub(super) fn io_error(error: parquet::errors::ParquetError) -> io::Error {
    io::Error::other(error)
}
