//! observer: per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
//!
//! The rooms, and what each may know:
//!
//! | room | owns | may know |
//! |---|---|---|
//! | [`kernel`] | load, attach, drain; the only room that names aya | the types shared with the programs |
//! | [`tasks`] | who is on this host | [`netlink`], [`netns`] |
//! | [`flow`] | deltas to windows; pure | – |
//! | [`record`] | fields and their rendering; pure | flow, task identity |
//! | [`sink`] | files, standard output, delivery | record |
//! | [`schema`] | what readers of the files are told; pure | record, sink's layout |
//! | [`telemetry`] | metrics, health | handles that each room gives it |
//! | [`config`], [`cli`] | flags, variables, file | – |
//! | [`app`] | wiring | all |
//! | [`replay`] | captures in place of interfaces | all but tasks' watch and telemetry |
//!
//! [`netns`], [`netlink`], [`ethtool`] and [`clock`] are what Linux offers to several of them. [`http`] makes the HTTP
//! clients, [`log`] writes the log, and a [`worker`] is a thread with a deadline, for all of them.

pub mod app;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ethtool;
pub mod flow;
pub mod http;
pub mod kernel;
pub mod log;
pub mod netlink;
pub mod netns;
pub mod record;
pub mod replay;
pub mod schema;
pub mod sink;
pub mod tasks;
pub mod telemetry;
pub mod worker;
