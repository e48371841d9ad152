//! Text records: fields separated by one space, `-` for an absent value, and a line feed.

use super::{
    Content, Format, Record,
    template::{Cell, CellFormat, Template, Templates},
};
use crate::flow::InterfaceNumber;

/// Appends the first line of a file.
pub fn write_header(format: &Format, out: &mut Vec<u8>) {
    for (number, field) in format.fields().iter().enumerate() {
        if number != 0 {
            out.push(b' ');
        }
        out.extend_from_slice(field.name().as_bytes());
    }
    out.push(b'\n');
}

/// Appends a record.
pub fn write_text(record: &Record<'_>, out: &mut Vec<u8>) {
    for (number, field) in record.context.format.fields().iter().enumerate() {
        if number != 0 {
            out.push(b' ');
        }
        field.value(record).write_text(out);
    }
    out.push(b'\n');
}

/// Writer of the records of one window. It renders the values that the flows of an interface share
/// only once.
#[derive(Debug, Default)]
pub struct TextLines(Templates);

impl TextLines {
    /// Appends a record of the interface with this number.
    pub fn write(&mut self, interface: InterfaceNumber, record: &Record<'_>, out: &mut Vec<u8>) {
        match record.content {
            Content::Flow(flow) => {
                self.0.get(interface.get(), || template(record)).write(record, flow, out);
            }
            Content::NoData | Content::SkipData(_) => write_text(record, out),
        }
    }
}

fn template(flow: &Record<'_>) -> Template {
    let mut template = Template::default();
    for (number, field) in flow.context.format.fields().iter().enumerate() {
        if number != 0 {
            template.text().push(b' ');
        }
        if field.origin().is_of_flow() {
            template.gap(Cell::Field(*field), CellFormat::Text);
        } else {
            field.value(flow).write_text(template.text());
        }
    }
    template.text().push(b'\n');
    template
}
