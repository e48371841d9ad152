//! Records: what a window says of an interface, rendered as text and as JSON.
//!
//! Owns: the one table of fields, and how each is computed and written. In: flows of a closed window and whose they
//! are. Out: bytes. Pure: no clock, no I/O, and no allocation per record.

mod batch;
mod fields;
mod format;
mod json;
mod text;

use std::{fmt::Write as _, sync::Arc};

pub use batch::Batch;
pub use fields::{Extension, Field, FieldType, Value};
pub use format::Format;
pub use json::write_json;
pub use text::{write_header, write_text};

use crate::{
    flow::{Delta, Window},
    tasks::{Attribute, Identity, Mac, Observed},
};

/// Whose a record is: an interface and all that is known of it, with the texts that every record repeats.
#[derive(Clone, Debug)]
pub struct Subject {
    /// ENI id, or name and MAC where none is known.
    pub interface_id: Box<str>,
    /// The interface's name.
    pub interface_name: Box<str>,
    /// Hardware address; empty where it has none.
    pub mac: Box<str>,
    /// Inode of its namespace; 0 where it has none.
    pub netns: u64,
    /// What the sources say.
    pub identity: Arc<Identity>,
}

impl Subject {
    /// The subject of an observed interface.
    pub fn new(observed: &Observed) -> Self {
        let interface = &observed.interface;
        let named = Self::named(&interface.name, interface.mac, Arc::clone(&observed.identity));
        Self { netns: interface.netns.inode, ..named }
    }

    /// The subject of an interface of which no more is known: one of a capture.
    pub fn named(name: &str, mac: Option<Mac>, identity: Arc<Identity>) -> Self {
        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
        let interface_id = identity.get(Attribute::InterfaceId).map_or_else(
            || {
                let mut id = name.to_string();
                if !mac.is_empty() {
                    let _ = write!(id, "@{mac}");
                }
                // A name may hold any byte but these two kinds; a record is split at spaces.
                id.replace(|c: char| c.is_whitespace() || c.is_control(), "_").into()
            },
            Into::into,
        );
        Self { interface_id, interface_name: name.into(), mac: mac.into(), netns: 0, identity }
    }
}

/// Packets and bytes that are in no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Packets as on the wire.
    pub packets: u64,
    /// Bytes of layer 3.
    pub bytes: u64,
}

/// What a record is about.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A flow. `log-status` is OK.
    Flow(&'a Delta),
    /// No packet crossed the interface in the window.
    NoData,
    /// Packets of the window are in no record.
    SkipData(Lost),
}

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When.
    pub window: Window,
    /// Whose.
    pub subject: &'a Subject,
    /// What.
    pub content: Content<'a>,
}
