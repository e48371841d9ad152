//! observer: per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
//!
//! The rooms, and what each may know:
//!
//! | room | owns | may know |
//! |---|---|---|
//! | [`kernel`] | load, attach, drain; the only room that names aya | the types shared with the programs |
//! | [`tasks`] | who is on this host | [`netlink`], [`netns`] |
//! | [`flow`] | deltas to windows; pure | – |
//! | [`accounts`] | what interfaces carried and hooks did not see; pure | the types shared with the programs |
//! | [`record`] | fields and their rendering; pure | flow, task identity |
//! | [`sink`] | files, standard output, delivery | record |
//! | [`schema`] | what readers of the files are told; pure | record, sink's layout |
//! | [`telemetry`] | metrics, health | handles that each room gives it |
//! | [`limits`] | limits of memory, CPU time, threads and descriptors, and sizes that fit | sizes that the rooms need |
//! | [`config`], [`cli`], [`given`] | flags, variables, file | – |
//! | [`app`] | wiring | all |
//! | [`replay`] | captures in place of interfaces | all but tasks' watch and telemetry |
//!
//! [`netns`], [`netlink`], [`ethtool`] and [`clock`] are what Linux offers to several of them. [`text_file`] reads files that
//! users write, [`http`] makes the HTTP clients, [`log`] writes the log, and a [`worker`] is a thread with a deadline.

pub mod accounts;
pub mod app;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod ethtool;
pub mod flow;
pub mod given;
pub mod http;
pub mod kernel;
pub mod limits;
pub mod log;
pub mod netlink;
pub mod netns;
pub mod record;
pub mod replay;
pub mod schema;
pub mod sink;
pub mod tasks;
pub mod telemetry;
pub mod text_file;
pub mod worker;
