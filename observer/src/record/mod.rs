//! Records of flows and interfaces, and their rendering as text and JSON.
//!
//! Owns: the table of fields, and the value and format of each. In: flows of a closed window, their
//! subjects, and the user's settings. Out: bytes and values. Pure: no clock, no I/O, and no
//! allocation per record.

#![deny(clippy::disallowed_methods, reason = "pure: the caller says the time and does the I/O")]

mod address;
mod batch;
mod community;
mod context;
mod digits;
mod extensions;
mod fields;
mod filter;
mod format;
mod json;
mod mark;
mod parity;
mod services;
mod subject;
mod template;
mod text;
mod value;

#[cfg(test)]
pub(crate) mod examples;
#[cfg(test)]
pub(crate) mod hostile;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

pub use batch::{Batch, BatchId, Owners};
pub use community::CommunityId;
pub use context::Context;
pub use extensions::Extension;
pub use fields::{Field, FieldType, Origin};
pub use filter::{Filter, FilterError, Rule};
pub use format::{Format, FormatError};
pub use json::{JsonLines, write_json};
pub use mark::Mark;
pub use services::{ServiceRanges, ServiceRangesError};
pub use subject::Subject;
pub use text::{TextLines, write_header, write_text};
pub use value::Value;

use crate::{
    flow::{Delta, Traffic, Window},
    tasks::Attribute,
};

/// Content of a record.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A flow; `log-status` is OK.
    Flow(&'a Delta),
    /// No packet crossed the interface in the window.
    NoData,
    /// Some packets of the window are in no record.
    SkipData(Traffic),
}

impl Content<'_> {
    /// `log-status` of the record.
    pub const fn status(&self) -> Status {
        match self {
            Self::Flow(_) => Status::Ok,
            Self::NoData => Status::NoData,
            Self::SkipData(_) => Status::SkipData,
        }
    }
}

/// Values of `log-status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// A flow.
    Ok,
    /// An interface without packets.
    NoData,
    /// An interface with packets that no record holds.
    SkipData,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Ok, Self::NoData, Self::SkipData];

    /// AWS's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::NoData => "NODATA",
            Self::SkipData => "SKIPDATA",
        }
    }
}

/// A record, which becomes one line or row.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Settings of all records.
    pub context: &'a Context,
    /// Window of the record.
    pub window: Window,
    /// Interface and task of the record.
    pub subject: &'a Subject,
    /// Content of the record.
    pub content: Content<'a>,
}

impl<'a> Record<'a> {
    /// Field `start`, in UNIX seconds.
    pub fn start(&self) -> i64 {
        match self.content {
            Content::Flow(delta) => delta.counters.first_ms.div_euclid(1000),
            Content::NoData | Content::SkipData(_) => self.window.start,
        }
    }

    /// Field `end`, in UNIX seconds.
    pub fn end(&self) -> i64 {
        match self.content {
            Content::Flow(delta) => delta.counters.last_ms.div_euclid(1000),
            Content::NoData | Content::SkipData(_) => self.window.end,
        }
    }

    /// Value of an attribute of the interface; if no source provides it, the user's default.
    pub fn known(&self, attribute: Attribute) -> Value<'a> {
        let said = match attribute {
            Attribute::AccountId => self.context.account_id.as_deref(),
            Attribute::Region => self.context.region.as_deref(),
            _ => None,
        };
        self.subject.identity.get(attribute).or(said).into()
    }
}
