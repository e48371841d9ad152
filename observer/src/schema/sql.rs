use std::fmt::Write as _;

use super::layout::Column;
use crate::record::FieldType;

/// Quotes a text with single quotes.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Lists columns, one on each line. `one` writes the name and the type of each.
pub(super) fn columns(
    columns: &[Column],
    types: [&str; 3],
    one: impl Fn(&mut String, &str, &str),
) -> String {
    let mut text = String::new();
    for (number, column) in columns.iter().enumerate() {
        let [int32, int64, string] = types;
        let kind = match column.kind {
            FieldType::Int32 => int32,
            FieldType::Int64 => int64,
            FieldType::String => string,
        };
        text.push_str(if number == 0 { "  " } else { ",\n  " });
        one(&mut text, column.name, kind);
    }
    text
}

/// Lists properties, one on each line.
pub(super) fn properties(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (number, (key, value)) in pairs.iter().enumerate() {
        text.push_str(if number == 0 { "  " } else { ",\n  " });
        // Writing to a String cannot fail.
        let _ = write!(text, "{} = {}", quoted(key), quoted(value));
    }
    text
}
