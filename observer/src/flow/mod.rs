//! Flows: deltas in, windows out.
//!
//! Owns: what a flow is to the daemon, the table that merges deltas, and where windows begin and end. In: [`Delta`]s
//! and the time. Out: [`Table`]s of whole windows. Pure: no clock, no I/O, nothing of the kernel but the twins of its
//! types, and nothing that can fail.

mod key;
mod table;
mod window;

pub use key::{Action, Direction, DropReason, Family, FlowKey, InterfaceNumber, address};
pub use table::{Added, Counters, Delta, Icmp, Late, Table};
pub use window::Window;
