//! The eBPF programs of observer. Built for `target_arch = "bpf"`; on other targets this binary is
//! empty, so that the whole workspace compiles.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(clippy::inline_always, reason = "as in the library")]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
