//! The harness of the scenarios in `e2e`: it drives the `observer` binary from outside, on a real
//! kernel.
//!
//! Owns: a lab for each scenario, namespaces and interfaces that stand for tasks, generators that
//! know exactly how much they sent, and readers of the daemon's output (records, text files,
//! metrics). In: the binary's path. Out: sums that can be compared. It uses only the daemon's
//! public interfaces.
//!
//! - [`lab`], [`netns`], [`veth`], [`address`], [`tunnel`], [`offloads`]: the environment
//! - [`firewall`], [`foreign`]: rules and programs that drop packets
//! - [`control_group`]: memory limits of the daemon
//! - [`traffic`]: the generators; [`cpus`]: their CPUs; [`counters`]: the kernel's own counters;
//!   [`capture`]: captures
//!   of an interface
//! - [`docker`], [`ecs_host`]: tasks in containers, as the ECS agent starts them
//! - [`daemon`], [`hook`], [`http`], [`pipe`]: the daemon; [`fake_ecs`], [`fake_agent`],
//!   [`fake_http`], [`moto`]: its
//!   sources of task metadata
//! - [`records`], [`record_files`], [`briefs`], [`text`], [`parquet`], [`metrics`], [`report`]: its
//!   output; [`sums`], [`books`]:
//!   comparison of all accounts
//! - [`python`], [`rows`]: other readers of the files; [`store`]: S3, for delivery
//! - [`requires`], [`poll`], [`stalls`], [`tally`]: the rest

#![allow(clippy::missing_panics_doc, reason = "a harness panics where a scenario shall fail")]

pub mod address;
pub mod books;
pub mod briefs;
pub mod capture;
pub mod control_group;
pub mod counters;
pub mod cpus;
pub mod daemon;
pub mod docker;
pub mod ecs_host;
pub mod fake_agent;
pub mod fake_ecs;
pub mod fake_http;
pub mod firewall;
pub mod foreign;
pub mod hook;
pub mod http;
pub mod lab;
pub mod metrics;
pub mod moto;
pub mod netns;
pub mod offloads;
pub mod parquet;
pub mod pipe;
pub mod poll;
pub mod python;
pub mod record_files;
pub mod records;
pub mod report;
pub mod requires;
pub mod rows;
pub mod stalls;
pub mod store;
pub mod sums;
pub mod tally;
pub mod text;
pub mod traffic;
pub mod tunnel;
pub mod veth;
