//! The kernel boundary of observer: types and code that the eBPF programs and the daemon share.
//!
//! - [`abi`]: types in maps, and names of maps and programs.
//! - [`hash`]: the hash of the flow cache.
//! - [`packet`]: the packet parser, shared by the eBPF programs, the unit tests and the fuzzer.
//!
//! The programs themselves are this package's binary and exist for `target_arch = "bpf"` only. The
//! daemon depends on the library for its types; the bytecode is built by `cargo xtask build`.
#![no_std]
#![allow(
    clippy::inline_always,
    reason = "a call costs a packet more than its body, and the verifier follows inlined code best"
)]

pub mod abi;
pub mod hash;
pub mod packet;

#[cfg(test)]
extern crate std;
