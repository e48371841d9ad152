//! The hooks, the flow cache, the ledger and the maps: all that runs in the kernel.
//!
//! In: a packet and the constants of the load. Out: counts in maps. A program never alters, delays or drops a
//! packet, and always lets the chain go on.
//!
//! Refused here: an event per packet, an unbounded loop, an atomic on the packet path, a string, a copy of a struct (it
//! becomes a call of a byte-wise `memmove`).

mod account;
mod cache;
mod clock;
mod drops;
mod fragments;
mod maps;
mod object;
mod owners;
mod settings;
mod tc;
mod xdp;
