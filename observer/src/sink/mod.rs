//! Outputs of records: files, standard output, and the delivery of finished files.
//!
//! Owns: a queue and a thread for each output, the files, and their delivery. In:
//! [`Batch`](crate::record::Batch)es. Out: bytes, and counts of written and lost records. An output
//! that is slow or fails does not affect the others.
//!
//! ```text
//! batch ─▶ queue ─▶ records by file ─▶ units ─▶ encoding ─▶ part ─▶ file ─▶ object
//! (Sinks)           (lines, parquet)            (files)     (part)          (delivery)
//! ```
//!
//! A unit is some hundred kilobytes of records of one file, written completely or not at all. After
//! each unit the part is a complete file except for its name: the next unit overwrites the end
//! marker of the format. A crash therefore leaves a readable file, and a full disk loses only the
//! units that did not fit.

mod counts;
mod delivery;
mod direct;
mod files;
mod gzip;
mod json;
mod lines;
mod observer;
mod options;
mod output;
mod parquet;
mod part;
mod progress;
mod queue;
mod recovery;
mod sinks;
mod slot;
mod stdout;
#[cfg(test)]
mod tests;
mod text;
mod units;

pub use counts::Counts;
pub use delivery::{
    Checksum, Delivery, DeliveryObserver, DeliveryOptions, Finished, Inbox, Refusal, Store,
    StoreError, StoreOptions,
};
pub use observer::{ObserverRef, Recovered, SinkLoss, SinkObserver};
pub use options::SinkOptions;
pub use output::{CloseError, Output, Sink};
pub use progress::Progress;
pub use recovery::Leftovers;
pub use sinks::{Sinks, SinksError};
pub use slot::{NO_ACCOUNT, NO_REGION, Partition, is_account, is_region};
