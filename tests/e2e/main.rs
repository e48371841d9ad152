//! The scenarios: the binary on a real kernel, in namespaces of its own. `cargo xtask test e2e` runs them.
//!
//! They need root; without it each says that it is skipped. Any number of test threads will do: of scenarios that
//! send traffic at most two run at once, and those that fill queues on purpose run alone (`requires::Turn`).
//! A part of them: `cargo xtask test e2e -- NAME`.
//!
//! Each ends with the same sum: what the generator sent = what the interface counted = records + ledger of losses.

mod apart;
mod bridge;
mod bulk;
mod churn;
mod churn_tasks;
mod delivery;
mod delivery_networks;
mod delivery_refusals;
mod docker;
mod drops;
mod fairness;
mod files;
mod flows;
mod frames;
mod generators;
mod gso;
mod harmless;
mod hooks;
mod host;
mod identity;
mod limits;
mod metrics;
mod names;
mod paths;
mod peers;
mod pressure;
mod records;
mod removed;
mod replay;
mod schema;
mod sources_api;
mod stopping;
mod tasks_command;
mod tunnels;
mod unseen;
mod usage;
mod windows;
mod xdp;
