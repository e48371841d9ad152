//! Text: fields joined by one space, `-` for what is absent, a line feed at the end.

use super::{
    Content, Format, Record,
    template::{Cell, How, Template, Templates},
};
use crate::flow::InterfaceNumber;

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
pub fn write_text(record: &Record<'_>, out: &mut Vec<u8>) {
    for (number, field) in record.context.format.fields().iter().enumerate() {
        if number != 0 {
            out.push(b' ');
        }
        field.value(record).write_text(out);
    }
    out.push(b'\n');
}

/// Writes the records of one window; what the flows of an interface share, once.
#[derive(Debug, Default)]
pub struct TextLines(Templates);

impl TextLines {
    /// One record of the interface with this number.
    pub fn write(&mut self, interface: InterfaceNumber, record: &Record<'_>, out: &mut Vec<u8>) {
        match record.content {
            Content::Flow(flow) => self.0.get(interface.get(), || template(record)).write(record, flow, out),
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
            template.hole(Cell::Field(*field), How::Text);
        } else {
            field.value(flow).write_text(template.text());
        }
    }
    template.text().push(b'\n');
    template
}
