//! Text: fields joined by one space, `-` for what is absent, a line feed at the end.

use std::io::Write as _;

use super::{Format, Record, Value};

/// The first line of a file.
pub fn write_header(format: &Format, out: &mut Vec<u8>) {
    for (number, field) in format.fields().iter().enumerate() {
        if number != 0 {
            out.push(b' ');
        }
        out.extend_from_slice(field.name().as_bytes());
    }
    out.push(b'\n');
}

/// One record.
pub fn write_text(format: &Format, record: &Record<'_>, out: &mut Vec<u8>) {
    for (number, field) in format.fields().iter().enumerate() {
        if number != 0 {
            out.push(b' ');
        }
        write_value(field.value(record, format.version()), out);
    }
    out.push(b'\n');
}

fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Absent => out.push(b'-'),
        Value::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        Value::Text(text) => out.extend_from_slice(text.as_bytes()),
        // A Vec takes every write.
        Value::Address(address) => drop(write!(out, "{address}")),
    }
}
