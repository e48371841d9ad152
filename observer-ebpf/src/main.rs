//! The eBPF programs of observer. Built for `target_arch = "bpf"`; elsewhere this binary is empty, so that the
//! workspace can be checked as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(clippy::inline_always, reason = "as in the library")]

#[cfg(target_arch = "bpf")]
mod programs;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
