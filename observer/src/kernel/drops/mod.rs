//! Packets that the kernel drops on observed interfaces, and the reasons.
//!
//! Owns: one program for the whole host on the tracepoint `skb:kfree_skb`, its maps, and the kernel
//! structures that it reads. In: the interfaces to watch. Out: a [`Delta`](crate::flow::Delta) for
//! each flow that the host's policy dropped, the number of undelivered packets of other flows, and
//! counts of all drops by reason.
//!
//! If the program cannot be loaded, the daemon runs without it.

mod counts;
mod detail;
mod error;
mod offsets;
mod program;
mod reasons;
mod verdicts;
mod watchlist;

pub use counts::{DropTotals, Dropped, Drops};
pub use detail::DropDetail;
pub use error::DropsError;
pub(super) use offsets::KernelOffsets;
pub use program::{probe, watch};
pub(super) use reasons::ReasonTable;
pub use watchlist::Watchlist;
