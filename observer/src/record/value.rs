//! Values, and how each is written in text and in JSON.

use std::net::IpAddr;

use super::{address::write_address, community::CommunityId, digits::write_number};

/// A field's value in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// No value: `-` in text, null or left out in JSON.
    Absent,
    /// A number.
    Number(u64),
    /// A word that needs no escaping anywhere: AWS's or ours.
    Word(&'a str),
    /// One word that a source gave: an id, an ARN, a name.
    Text(&'a str),
    /// An address.
    Address(IpAddr),
    /// A hash of a flow.
    Community(CommunityId),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    /// An empty text and a hyphen, AWS's sign for it, are no value.
    fn from(text: Option<&'a str>) -> Self {
        match text {
            None | Some("" | "-") => Self::Absent,
            Some(text) => Self::Text(text),
        }
    }
}

impl Value<'_> {
    /// Appends it as text records have it.
    #[inline]
    pub fn write_text(self, out: &mut Vec<u8>) {
        match self {
            Self::Absent => out.push(b'-'),
            value => value.write_bare(out),
        }
    }

    /// Appends it as JSON has it.
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

    /// Appends it without quotes; nothing where it is absent.
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
