//! `observer replay`: runs a capture through the same eBPF bytecode, and writes the same records.
//!
//! Owns: reading captures, and the properties of a packet that only the capturing kernel knows:
//! time, length, direction, number of packets on the wire. In: a pcap or pcapng file. Out:
//! [`Batch`](crate::record::Batch)es for the sinks, and a report that accounts for every packet of
//! the file.
//!
//! - `run`: the verb; `options`: its settings
//! - `engine`: runs packets and hands over records
//! - `capture`: reads packets from files
//! - `interfaces`: numbers and names of interfaces
//! - `link`: turns packets into Ethernet frames; `link_names`: names of unsupported link types
//! - `side`: direction of a frame
//! - `segments`: super-packets
//! - `report`: the report
//! - `written`: counts of the sinks

mod capture;
mod engine;
mod interfaces;
mod link;
mod link_names;
mod options;
mod report;
mod run;
mod segments;
mod side;
mod written;

pub use self::{capture::CaptureError, options::Options, run::run};
