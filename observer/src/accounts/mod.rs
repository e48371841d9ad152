//! Accounts: every packet of every interface, in a record or in a counted loss.
//!
//! Owns: the window that a count belongs to, the life of an interface's account from its first
//! packet to its last record, fair shares of a full window, records that wait for the identity of
//! their interface, and the equation that the product promises ([`Statement`]): packets seen +
//! packets stopped = packets recorded + packets lost, and the same for bytes, for each interface
//! and direction.
//!
//! In: [`Event`]s about interfaces, [`Delta`](crate::flow::Delta)s from the drain and the spill
//! ring, readings of the kernel's ledgers, and the time. Out: [`Batch`](crate::record::Batch)es to
//! write, interface numbers that may be given again, and [`Figures`] for the metrics.
//!
//! Pure: no clock, no I/O, no thread. The tick of the daemon drives it with [`Accounts`]; `replay`
//! keeps an [`Account`] for each interface of a capture and drives [`CaptureWindows`].
//!
//! - `account`: sums of one interface; the equation
//! - `interface`: one interface of the host, and the stages of its life
//! - `register`: the interfaces by number, their shares of the window, and counts that precede
//!   their registration
//! - `held`: closed windows that wait for an identity
//! - `shares`: room of the open window, and the part of each interface
//! - `host`: the accounts of all interfaces of a host, window by window
//! - [`comparison`]: an interface's own counters beside its ledger, and when to read them
//! - [`gap`]: traffic that passed while the programs were removed
//! - `turn`: a tick, and its results
//! - [`unseen`]: traffic that passed the programs by; [`claim`]: the part that drops do not explain
//! - `capture`: the windows of a capture, which has a clock for each interface

#![deny(clippy::disallowed_methods, reason = "pure: the caller says the time and does the I/O")]

mod account;
mod capture;
pub mod claim;
pub mod comparison;
mod event;
#[cfg(test)]
mod examples;
mod frames;
pub mod gap;
mod held;
#[cfg(test)]
mod histories;
mod host;
mod interface;
mod protocol;
mod register;
mod shares;
mod turn;
mod uncounted;
pub mod unseen;

pub use account::{Account, Statement};
pub use capture::{CaptureWindows, ClosedWindow};
pub use event::{Event, Named};
pub use frames::{Frames, Seen};
pub use host::{Accounts, Limits};
pub use interface::Figures;
pub use protocol::Protocol;
pub use turn::{Annex, Outcome, Turn};
pub use uncounted::{Uncounted, UncountedLosses};
