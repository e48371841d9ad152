use super::{Extension, Field, Origin, Record, Value, digits::in_place};
use crate::flow::Delta;

/// A line of one interface and window: what all its flows share is written, with holes for what they do not.
#[derive(Debug, Default)]
pub(super) struct Template {
    text: Vec<u8>,
    holes: Vec<Hole>,
}

/// A place in the text.
#[derive(Debug)]
struct Hole {
    /// Where.
    at: usize,
    /// Bytes of text there that stand only before a value: its key.
    key: usize,
    what: Cell,
    how: How,
}

/// What is written there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cell {
    Field(Field),
    Extension(Extension),
}

/// In which form.
#[derive(Clone, Copy, Debug)]
pub(super) enum How {
    /// As text records have it.
    Text,
    /// Without quotes, which stand in the text.
    Bare,
    /// As JSON has it, behind its key; neither where there is no value.
    Pair,
}

impl Cell {
    pub(super) fn value<'a>(self, record: &Record<'a>) -> Value<'a> {
        match self {
            Self::Field(field) => field.value(record),
            Self::Extension(extension) => extension.value(record),
        }
    }

    /// Its value in the record of a flow, where flows may differ in it.
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
    /// The text so far, to be added to.
    pub(super) const fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    /// Leaves a hole behind the text so far.
    pub(super) fn hole(&mut self, what: Cell, how: How) {
        self.holes.push(Hole { at: self.text.len(), key: 0, what, how });
    }

    /// Leaves a hole for a pair of JSON that not every flow has, with what stands before its value.
    pub(super) fn pair(&mut self, what: Cell, key: impl FnOnce(&mut Vec<u8>)) {
        let at = self.text.len();
        key(&mut self.text);
        self.holes.push(Hole { at, key: self.text.len() - at, what, how: How::Pair });
    }

    /// Appends a piece of the text. Most are short: then a copy of a known size is some stores, and no call.
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
        for Hole { at, key, what, how } in &self.holes {
            self.copy(from, *at, out);
            from = at + key;
            let value = what.of_flow(record, flow);
            match how {
                How::Text => value.write_text(out),
                How::Bare => value.write_bare(out),
                How::Pair if matches!(value, Value::Absent) => {}
                How::Pair => {
                    self.copy(*at, from, out);
                    value.write_json(out);
                }
            }
        }
        out.extend_from_slice(&self.text[from..]);
    }
}

/// Templates by the numbers of their interfaces, for one window.
#[derive(Debug, Default)]
pub(super) struct Templates(Vec<Option<Box<Template>>>);

impl Templates {
    /// The template of an interface, made for the first of its flows.
    pub(super) fn get(&mut self, number: u16, make: impl FnOnce() -> Template) -> &Template {
        let number = usize::from(number);
        if number >= self.0.len() {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number].get_or_insert_with(|| Box::new(make()))
    }
}
