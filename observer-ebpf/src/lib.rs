//! The kernel boundary of observer: what both sides share.
//!
//! - [`abi`]: the types that lie in maps, and the names under which both sides find them.
//! - [`hash`]: where a flow lies in the cache.
//! - [`packet`]: the one packet parser. The eBPF programs, the unit tests and the fuzzer run these very lines.
//!
//! The programs themselves are this package's binary and exist for `target_arch = "bpf"` only. The daemon depends
//! on the library for its types; the bytecode is built by `cargo xtask build`.
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
