//! Flows: counts from the kernel in, windows of flows out.
//!
//! Owns: the key of a flow, the table that merges counts of the same flow, and the edges of
//! windows. In: [`Delta`]s and the time. Out: [`Table`]s of closed windows.
//!
//! Pure: no clock, no I/O, and nothing that can fail. It knows the kernel only by the types shared
//! with the programs.

#![deny(clippy::disallowed_methods, reason = "pure: the caller says the time and does the I/O")]

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
