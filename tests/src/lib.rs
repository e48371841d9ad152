//! The harness of the scenarios in `e2e`: it drives the `observer` binary from outside, on a real kernel.
//!
//! Owns: a private place for each scenario, namespaces and interfaces that stand for tasks, generators that know
//! exactly what they sent, and readers of what the daemon says (records, text files, metrics). In: the binary's
//! path. Out: sums that can be compared. It knows nothing of the daemon's insides: only the contract.
//!
//! - [`lab`], [`netns`], [`veth`], [`tunnel`], [`offloads`]: the place
//! - [`firewall`], [`foreign`]: what drops packets there
//! - [`control_group`]: limits of the daemon
//! - [`traffic`]: the generators; [`cpus`]: where they run; [`counters`]: what the kernel itself counted;
//!   [`capture`]: what crossed an interface
//! - [`docker`], [`ecs_host`]: tasks in containers, as the ECS agent starts them
//! - [`daemon`], [`hook`], [`http`], [`pipe`]: the daemon; [`fake_ecs`], [`fake_agent`], [`fake_http`], [`moto`]: what it is told
//!   about tasks
//! - [`records`], [`briefs`], [`text`], [`parquet`], [`metrics`], [`report`]: what it says; [`books`]: whether all of that
//!   agrees
//! - [`python`], [`rows`]: other readers of the files; [`store`]: where they are delivered
//! - [`requires`], [`poll`], [`tally`]: the rest

#![allow(clippy::missing_panics_doc, reason = "a harness panics where a scenario shall fail")]

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
pub mod records;
pub mod report;
pub mod requires;
pub mod rows;
pub mod store;
pub mod tally;
pub mod text;
pub mod traffic;
pub mod tunnel;
pub mod veth;
