//! Flows: merges counts from the kernel into windows.
//!
//! Owns: the key of a flow, the table that merges counts of the same flow, and the boundaries of
//! windows. In: [`Delta`]s and the time. Out: [`Table`]s of closed windows.
//!
//! Pure: no clock, no I/O, and no operation that can fail. Depends on the kernel only through the
//! types shared with the programs.

#![deny(clippy::disallowed_methods, reason = "pure: the caller passes the time and does the I/O")]

mod delta;
mod key;
mod room;
mod settle;
mod table;
mod traffic;
mod window;

pub use delta::{Counters, Delta, Icmp};
pub use key::{Action, Direction, DropReason, Family, FlowKey, InterfaceNumber, address};
pub use room::{Claim, Room};
pub use table::{Added, Table};
pub use traffic::Traffic;
pub use window::Window;
