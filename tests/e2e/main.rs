//! Scenarios: the binary on a real kernel, in private namespaces. `cargo xtask test e2e` runs them.
//!
//! They need root; without it each prints a skip. Any number of test threads works: at most two
//! scenarios with traffic run at once, and scenarios that fill queues run alone (`requires::Turn`).
//! To run some of them: `cargo xtask test e2e -- NAME`.
//!
//! Each ends with the same comparison: generated traffic = interface counters = records + losses.

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
mod killed;
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
