//! The kernel: the only room that names aya.
//!
//! Owns: loading the programs, putting them on interfaces and taking them off, reading what they counted.
//! In: which interface, in which namespace; a time to drain. Out: [`Delta`](crate::flow::Delta)s and
//! [`Ledger`](observer_ebpf::abi::Ledger)s.
//!
//! - [`preflight`]: what this host offers, before anything is touched
//! - [`bpffs`]: where the maps are pinned, which is how aya shares them between the loads of one object
//! - [`object`]: the programs, loaded once per interface
//! - [`attachment`]: on an interface, in its namespace, and off again
//! - [`xdp`]: whether and how XDP may count ingress on an interface
//! - [`drain`]: flip, grace period, read and clear
//! - [`drops`]: what the kernel drops, and why
//! - [`diagnostics`]: what the programs say when asked to
//! - [`test_run`]: the programs, run on packets that cross no interface
//! - [`ticks`]: the kernel's clock that times packets, beside UNIX time
//! - [`spares`]: programs that are loaded before they are needed
//! - [`gap`]: what an interface carried before the programs were on it
//! - [`grace`]: waiting until no program can still be running on what it saw before

pub mod attachment;
pub mod bpffs;
mod btf;
pub mod diagnostics;
pub mod drain;
mod drop_reasons;
pub mod drops;
mod error;
pub mod gap;
pub mod grace;
pub mod ledger;
mod mapping;
pub mod object;
pub mod preflight;
pub mod spares;
mod syscall;
pub mod test_run;
mod ticks;
pub mod xdp;

pub use attachment::{Attachment, Hook, IngressHook};
pub use drain::Drain;
pub use error::KernelError;
pub use object::{Loader, Programs, Sizes};
pub use xdp::{XdpMode, XdpPlan, XdpWish};
