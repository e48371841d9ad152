//! Everything that runs in the kernel: hooks, flow cache, ledgers and maps.
//!
//! In: packets, and constants of the load. Out: counts in maps. No program alters, delays or drops
//! a packet, and every program lets the next in the chain run.
//!
//! Not allowed: an event per packet, an unbounded loop, an atomic on the packet path, a string, and
//! a copy of a struct, which becomes a call of a byte-wise `memmove`.

mod account;
mod cache;
mod clock;
mod drops;
mod fragments;
mod ledger;
mod maps;
mod object;
mod owners;
mod settings;
mod tc;
mod xdp;
