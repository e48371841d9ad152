//! JSON lines: one flat object per record, with AWS's field names in `_` style and numbers as
//! numbers.
//!
//! The fields of version 2 are always present, null where text has `-`. All other fields are
//! present if known, independent of the format; the extensions follow. `version` is that of the
//! format, so that it is the same in every output.

use super::{
    Content, Extension, Field, FieldType, Record, Value,
    template::{Cell, CellFormat, Template, Templates},
};
use crate::flow::InterfaceNumber;

/// Every cell of a line, in order.
fn cells() -> impl Iterator<Item = Cell> {
    let fields = Field::ALL.iter().map(|field| Cell::Field(*field));
    fields.chain(Extension::ALL.iter().map(|extension| Cell::Extension(*extension)))
}

/// True if the key is present even with a null value.
const fn is_always_there(cell: Cell) -> bool {
    matches!(cell, Cell::Field(field) if field.version() == 2)
}

/// Appends a record with its line feed.
pub fn write_json(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut separator = b'{';
    for cell in cells() {
        let value = cell.value(record);
        if value != Value::Absent || is_always_there(cell) {
            write_key(separator, cell, out);
            value.write_json(out);
            separator = b',';
        }
    }
    out.extend_from_slice(b"}\n");
}

fn write_key(separator: u8, cell: Cell, out: &mut Vec<u8>) {
    out.extend_from_slice(&[separator, b'"']);
    out.extend_from_slice(cell.key().as_bytes());
    out.extend_from_slice(b"\":");
}

/// Writer of the records of one window. It renders the values that the flows of an interface share
/// only once.
#[derive(Debug, Default)]
pub struct JsonLines(Templates);

impl JsonLines {
    /// Appends a record of the interface with this number.
    pub fn write(&mut self, interface: InterfaceNumber, record: &Record<'_>, out: &mut Vec<u8>) {
        match record.content {
            Content::Flow(flow) => {
                self.0.get(interface.get(), || template(record)).write(record, flow, out);
            }
            Content::NoData | Content::SkipData(_) => write_json(record, out),
        }
    }
}

fn template(flow: &Record<'_>) -> Template {
    let mut template = Template::default();
    let mut separator = b'{';
    for cell in cells() {
        let origin = cell.origin();
        if origin.is_of_every_flow() {
            write_key(separator, cell, template.text());
            let quoted = is_text(cell);
            template.text().extend(quoted.then_some(b'"'));
            template.gap(cell, CellFormat::Bare);
            template.text().extend(quoted.then_some(b'"'));
        } else if origin.is_of_flow() {
            // Never the first cell: that is `version`, which every record has.
            template.pair(cell, |text| write_key(separator, cell, text));
        } else {
            let value = cell.value(flow);
            if value == Value::Absent && !is_always_there(cell) {
                continue;
            }
            write_key(separator, cell, template.text());
            value.write_json(template.text());
        }
        separator = b',';
    }
    template.text().extend_from_slice(b"}\n");
    template
}

const fn is_text(cell: Cell) -> bool {
    let kind = match cell {
        Cell::Field(field) => field.field_type(),
        Cell::Extension(extension) => extension.field_type(),
    };
    matches!(kind, FieldType::String)
}
