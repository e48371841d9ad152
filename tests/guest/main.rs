//! Scenarios for other kernels in guests: features that this machine's kernel lacks, and limits of
//! old kernels.
//!
//! They drive the binary like those of `e2e`, with the same harness. `cargo xtask test kernels`
//! runs them in guests, where all features of Debian's kernels are available; elsewhere they may
//! fail.

mod offloads;
mod overflow;
mod verbose;
mod vlan;
