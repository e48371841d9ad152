use super::{Extension, Field, Origin, Record, Value, digits::in_place};
use crate::flow::Delta;

/// The line of an interface and window: the text that its flows share, with gaps for the values of
/// each flow.
#[derive(Debug, Default)]
pub(super) struct Template {
    text: Vec<u8>,
    gaps: Vec<Gap>,
}

/// A gap in the text.
#[derive(Debug)]
struct Gap {
    /// Offset in the text.
    at: usize,
    /// Bytes of the key at that offset, written only if there is a value.
    key: usize,
    cell: Cell,
    format: CellFormat,
}

/// A field or extension.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Field(Field),
    Extension(Extension),
}

/// Format of a value in a gap.
#[derive(Clone, Copy, Debug)]
pub(super) enum CellFormat {
    /// As in text records.
    Text,
    /// Without quotes, which are part of the text.
    Bare,
    /// As in JSON, after its key. Nothing if there is no value.
    Pair,
}

impl Cell {
    pub(super) fn value<'a>(self, record: &Record<'a>) -> Value<'a> {
        match self {
            Self::Field(field) => field.value(record),
            Self::Extension(extension) => extension.value(record),
        }
    }

    /// Value in the record of a flow, for fields that may differ between flows.
    #[inline]
    fn of_flow<'a>(self, record: &Record<'a>, flow: &'a Delta) -> Value<'a> {
        match self {
            Self::Field(field) => field.of_flow(record, flow),
            Self::Extension(extension) => extension.of_flow(flow),
        }
    }

    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Field(field) => field.key(),
            Self::Extension(extension) => extension.key(),
        }
    }

    pub(super) const fn origin(self) -> Origin {
        match self {
            Self::Field(field) => field.origin(),
            Self::Extension(extension) => extension.origin(),
        }
    }
}

impl Template {
    /// The text so far, for appending.
    pub(super) const fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Adds a gap after the text so far.
    pub(super) fn gap(&mut self, cell: Cell, format: CellFormat) {
        self.gaps.push(Gap { at: self.text.len(), key: 0, cell, format });
    }

    /// Adds a gap for a JSON pair that not every flow has, and its key.
    pub(super) fn pair(&mut self, cell: Cell, key: impl FnOnce(&mut Vec<u8>)) {
        let at = self.text.len();
        key(&mut self.text);
        self.gaps.push(Gap { at, key: self.text.len() - at, cell, format: CellFormat::Pair });
    }

    /// Appends a part of the text. Most parts are short: copying a constant size takes a few stores
    /// and no call.
    #[inline]
    fn copy(&self, from: usize, to: usize, out: &mut Vec<u8>) {
        const SHORT: usize = 32;
        match self.text[from..].first_chunk::<SHORT>() {
            Some(short) if to - from <= SHORT => in_place(out, |place| {
                *place = *short;
                to - from
            }),
            _ => out.extend_from_slice(&self.text[from..to]),
        }
    }

    /// Appends the line of a flow.
    pub(super) fn write(&self, record: &Record<'_>, flow: &Delta, out: &mut Vec<u8>) {
        let mut from = 0;
        for Gap { at, key, cell, format } in &self.gaps {
            self.copy(from, *at, out);
            from = at + key;
            let value = cell.of_flow(record, flow);
            match format {
                CellFormat::Text => value.write_text(out),
                CellFormat::Bare => value.write_bare(out),
                CellFormat::Pair if matches!(value, Value::Absent) => {}
                CellFormat::Pair => {
                    self.copy(*at, from, out);
                    value.write_json(out);
                }
            }
        }
        out.extend_from_slice(&self.text[from..]);
    }
}

/// Templates of one window, by interface number.
#[derive(Debug, Default)]
pub(super) struct Templates(Vec<Option<Box<Template>>>);

impl Templates {
    /// The template of an interface, created by `make` on first use.
    pub(super) fn get(&mut self, number: u16, make: impl FnOnce() -> Template) -> &Template {
        let number = usize::from(number);
        if number >= self.0.len() {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number].get_or_insert_with(|| Box::new(make()))
    }
}
