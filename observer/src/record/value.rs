//! Values of fields, and their format in text and JSON.

use std::net::IpAddr;

use super::{address::write_address, community::CommunityId, digits::write_number};

/// Value of a field in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// No value: `-` in text, null or omitted in JSON.
    Absent,
    /// A number.
    Number(u64),
    /// A word of AWS or observer that needs no escaping.
    Word(&'a str),
    /// A word from a source: an ID, an ARN, a name.
    Text(&'a str),
    /// An address.
    Address(IpAddr),
    /// A hash of the flow.
    Community(CommunityId),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    /// An empty text and a hyphen, which AWS writes for it, are no value.
    fn from(text: Option<&'a str>) -> Self {
        match text {
            None | Some("" | "-") => Self::Absent,
            Some(text) => Self::Text(text),
        }
    }
}

impl Value<'_> {
    /// Appends the value as in text records.
    #[inline]
    pub fn write_text(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(b'-'),
            value => value.write_bare(out),
        }
    }

    /// Appends the value as in JSON.
    pub fn write_json(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.extend_from_slice(b"null"),
            Self::Number(_) => self.write_bare(out),
            // Serialising a str to a Vec cannot fail.
            Self::Text(text) => drop(serde_json::to_writer(out, text)),
            Self::Word(_) | Self::Address(_) | Self::Community(_) => {
                out.push(b'"');
                self.write_bare(out);
                out.push(b'"');
            }
        }
    }

    /// Appends the value without quotes; nothing if absent.
    #[inline]
    pub fn write_bare(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => {}
            Self::Number(number) => write_number(number, out),
            Self::Word(text) | Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Address(address) => write_address(address, out),
            Self::Community(id) => out.extend_from_slice(id.as_bytes()),
        }
    }
}
