//! eBPF programs of the benchmarks: the packet path with varying flows, and programs to compare it
//! with. In a separate object, because the daemon does not need them.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![allow(clippy::inline_always, reason = "as in the library")]

#[cfg(target_arch = "bpf")]
#[path = "programs"]
mod programs {
    mod account;
    mod cache;
    mod clock;
    mod fragments;
    mod ledger;
    mod maps;
    mod object;
    mod owners;
    mod settings;
    mod steps;
    mod tc;
    mod varied;
    mod xdp;
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
