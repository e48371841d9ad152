//! JSON lines: one flat object per record, AWS's names with `_`, numbers as numbers.
//!
//! The fields of version 2 are always there, null where text has `-`; others only where they are known.

use std::io::Write as _;

use super::{Extension, Field, Record, Value};

/// One record with its line feed. `version` is that of all fields that a host can fill.
pub fn write_json(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut separator = b'{';
    let mut pair = |key: &str, value: Value<'_>, out: &mut Vec<u8>| {
        out.push(separator);
        separator = b',';
        out.push(b'"');
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(b"\":");
        write_value(value, out);
    };
    for field in Field::ALL {
        let value = field.value(record, VERSION);
        if value != Value::Absent || field.version() == 2 {
            pair(field.key(), value, out);
        }
    }
    for extension in Extension::ALL {
        let value = extension.value(record);
        if value != Value::Absent {
            pair(extension.key(), value, out);
        }
    }
    out.extend_from_slice(b"}\n");
}

/// The highest version of a field that a record can hold: the ECS fields'.
const VERSION: u8 = 7;

fn write_value(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Absent => out.extend_from_slice(b"null"),
        Value::Number(number) => out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes()),
        // Serialising a str to a Vec cannot fail.
        Value::Text(text) => drop(serde_json::to_writer(&mut *out, text)),
        Value::Address(address) => drop(write!(out, "\"{address}\"")),
    }
}
