//! The eBPF programs: loading, attaching and reading them. The only room that uses aya.
//!
//! Owns: the loaded programs, their attachment to interfaces, and the shared maps. In: an interface
//! in its namespace, a time to drain. Out: [`Delta`](crate::flow::Delta)s and
//! [`Ledger`](observer_ebpf::abi::Ledger)s.
//!
//! - [`preflight`]: checks of the host before anything is changed
//! - [`bpffs`]: directories for pinned maps; [`Earlier`]: the maps of an earlier run
//! - [`sizes`]: sizes of the maps, from one memory budget
//! - [`loader`], [`programs`]: the programs, loaded once per interface; [`spares`]: programs loaded
//!   in advance
//! - [`attachment`]: attaching programs to an interface; `link` and `clsact` are the two ways,
//!   `pins` lets the next run take over, `presence` checks the result
//! - [`xdp`]: the decision whether XDP counts ingress on an interface, and its attachment
//! - [`drain`], [`grace`]: reading and clearing the flow cache; `cache` and `ring` are its maps,
//!   `entry` converts its entries, `ticks` their times
//! - [`ledger`]: counts per interface; [`counters`] and [`gap`] compare them with the counters of
//!   network devices
//! - [`drops`]: packets that the kernel drops, and the reasons; `btf` finds the kernel structures
//!   to read
//! - [`test_run`]: running programs on captured packets
//! - [`diagnostics`]: log messages of the programs
//! - `choices`: choices that a user has for all interfaces
//! - `mapping`, `syscall`: arrays mapped into memory, and calls of `bpf(2)`

pub mod attachment;
pub mod bpffs;
mod btf;
mod cache;
mod choices;
mod clsact;
pub mod counters;
pub mod diagnostics;
pub mod drain;
pub mod drops;
mod earlier;
mod entry;
mod error;
pub mod gap;
pub mod grace;
pub mod ledger;
mod link;
pub mod loader;
mod mapping;
mod namespace;
mod pins;
pub mod preflight;
mod presence;
pub mod programs;
mod ring;
pub mod sizes;
pub mod spares;
mod syscall;
pub mod test_run;
mod ticks;
pub mod xdp;

pub use attachment::{Attachment, Hook, IngressHook};
pub use cache::Position;
pub use choices::{AttachMethod, DropsMode, IngressChoice, OnStop};
pub use clsact::{OwnQdisc, remove_filters, remove_quiet};
pub use counters::Reading;
pub use drain::Drain;
pub use earlier::{Earlier, run_id};
pub use error::KernelError;
pub use loader::{Loader, LoaderOptions};
pub use pins::LinkPins;
pub use presence::{Missing, Presence};
pub use programs::Programs;
pub use sizes::{MAX_INTERFACES, Sizes};
pub use xdp::{XdpChanges, XdpMode, XdpPlan, XdpSelection, XdpWish};
