//! Types in maps, shared by the programs and the daemon.
//!
//! Owns: layout and names. In: nothing. Out: plain integers only.
//!
//! Rules: `repr(C)`; no `bool` and no enum as a field (the other side could write an invalid
//! value); explicit padding only; an assertion of each type's size, so that a layout never changes
//! by accident.

mod clock;
mod control;
mod drop;
mod flow;
mod fragment;
mod ledger;
pub mod names;
mod replay;

pub use clock::Clock;
pub use control::Control;
pub use drop::{
    DROP_VERDICTS, DropCount, DropCountKey, DropKey, DropReasons, DropSlot, DropState,
    KernelLayout, UNKNOWN_REASON, Verdict, WatchKey,
};
pub use flow::{Direction, Family, FlowKey, FlowSet, FlowSlot, WAYS};
pub use fragment::{FRAGMENT_SETS, FRAGMENT_WAYS, Fragments};
pub use ledger::{Ledger, Loss, LossReason, NonIpKind, Note};
pub use replay::Replay;
