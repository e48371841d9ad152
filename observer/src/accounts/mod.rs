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
//! write, interface numbers to reuse, and [`Figures`] for the metrics.
//!
//! Pure: no clock, no I/O, no thread. The daemon's tick thread drives [`Accounts`]. `replay` keeps
//! an [`Account`] for each interface of a capture, and drives [`CaptureWindows`].
//!
//! - `account`: sums of one interface, and the equation
//! - `interface`: one interface of the host, and the stages of its account
//! - `register`: interfaces by number, their shares of the window, and counts that precede their
//!   registration
//! - `held`: records that wait for the identity of their interface
//! - `shares`: room of the open window, and the share of each interface
//! - `host`: accounts of all interfaces of a host, window by window
//! - [`comparison`]: an interface's own counters compared with its ledger, and the times to read
//!   them
//! - [`gap`]: traffic that passed while the programs were removed
//! - `standing`, `restore`: accounts that continue from one run of the daemon to the next
//! - `tick`: state and results of a tick
//! - [`unseen`]: traffic that bypassed the programs; [`unexplained`]: the part that drops do not
//!   explain
//! - `capture`: windows of a capture, with a clock for each interface

#![deny(clippy::disallowed_methods, reason = "pure: the caller passes the time and does the I/O")]

mod account;
mod capture;
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
mod limits;
mod protocol;
mod register;
mod restore;
mod shares;
mod standing;
mod tick;
mod uncounted;
pub mod unexplained;
pub mod unseen;

pub use account::{Account, Statement};
pub use capture::{CaptureWindows, ClosedWindow};
pub use event::{Event, Named};
pub use frames::{Frames, Seen};
pub use host::Accounts;
pub use interface::Figures;
pub use limits::Limits;
pub use protocol::Protocol;
pub use standing::{Kept, Restored, Standing};
pub use tick::{BatchExtras, OpenTick, Outcome};
pub use uncounted::{Uncounted, UncountedLosses};
