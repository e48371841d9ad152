//! Scenarios for the kernels of the matrix: what development kernels lack, and what old ones may refuse.
//!
//! They drive the binary like those of `e2e` and with the same harness. `cargo xtask test kernels` runs them in guests,
//! where everything that Debian's kernels have is there; elsewhere they may fail.

mod offloads;
mod overflow;
mod verbose;
mod vlan;
