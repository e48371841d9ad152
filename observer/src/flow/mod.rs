//! Flows: deltas in, windows out.
//!
//! Owns: what a flow is to the daemon, the table that merges deltas, and where windows begin and end. In: [`Delta`]s
//! and the time. Out: [`Table`]s of whole windows. Pure: no clock, no I/O, nothing of the kernel but the twins of its
//! types, and nothing that can fail.

mod key;
mod room;
mod table;
mod traffic;
mod window;

pub use key::{Action, Direction, DropReason, Family, FlowKey, InterfaceNumber, address};
pub use room::{Claim, Room};
pub use table::{Added, Counters, Delta, Icmp, Table};
pub use traffic::Traffic;
pub use window::Window;
