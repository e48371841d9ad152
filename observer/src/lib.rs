//! observer: per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
//!
//! The rooms, and what each may know:
//! - [`kernel`]: load, attach, drain; the only room that names aya
//! - [`flow`]: deltas to windows; pure
//! - [`netns`], [`netlink`], [`clock`]: what Linux offers, for the rooms above and below

pub mod clock;
pub mod flow;
pub mod kernel;
pub mod netlink;
pub mod netns;
