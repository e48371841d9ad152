//! observer: per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
//!
//! The promise: for every interface and direction, packets seen + packets stopped = packets
//! recorded + packets lost, and the same for bytes. [`accounts`] owns that equation; start there
//! and in [`flow`].
//!
//! Each room imports only the rooms in its row. `cargo xtask lint` checks it.
//!
//! | room | owns | imports |
//! |---|---|---|
//! | [`flow`] | flows, and the table that merges counts into windows; pure | [`observer_ebpf::abi`] |
//! | [`accounts`] | windows, the lives of interfaces, losses, and the equation; pure | [`flow`], [`record`], [`tasks`], [`observer_ebpf::abi`] |
//! | [`record`] | fields and their rendering; pure | [`flow`], [`tasks`], [`text_file`] |
//! | [`kernel`] | load, attach, drain; the only room that names aya | [`flow`], [`linux`], [`log`], [`worker`], [`observer_ebpf::abi`], [`observer_ebpf::hash`] |
//! | [`tasks`] | tasks of this host, their interfaces, and the sources that identify them | [`http`], [`linux`], [`log`], [`text_file`], [`worker`] |
//! | [`journal`] | everything that was drained and is not in a file yet, kept for the next run | [`accounts`], [`flow`], [`kernel`], [`linux`], [`log`], [`record`], [`tasks`], [`worker`], [`observer_ebpf::abi`] |
//! | [`sink`] | files, standard output, delivery | [`flow`], [`http`], [`linux`], [`log`], [`record`], [`tasks`], [`worker`] |
//! | [`schema`] | table definitions and pipelines for readers of the files | [`config`], [`record`], [`sink`] |
//! | [`telemetry`] | metrics, health, the HTTP server | [`accounts`], [`flow`], [`http`], [`kernel`], [`linux`], [`record`], [`sink`], [`tasks`], [`observer_ebpf::abi`] |
//! | [`limits`] | limits on memory, CPU time, threads and descriptors, and sizes that fit them | [`flow`], [`kernel`], [`sink`] |
//! | [`cli`] | the verbs and flags of the command line | [`config`], [`schema`], [`sink`], [`tasks`] |
//! | [`config`] | the settings: flags, variables and the file merged | [`http`], [`kernel`], [`linux`], [`log`], [`record`], [`sink`], [`tasks`], [`text_file`] |
//! | [`given`] | the place where a wrong value was given | [`cli`], [`config`] |
//! | [`failure`] | failures of a command, and their exit codes | [`config`], [`kernel`], [`limits`], [`schema`], [`tasks`] |
//! | [`outputs`] | the outputs of a configuration | [`config`], [`failure`], [`linux`], [`sink`] |
//! | [`replay`] | records from a capture | [`accounts`], [`config`], [`failure`], [`flow`], [`kernel`], [`outputs`], [`record`], [`sink`], [`tasks`], [`worker`], [`observer_ebpf::abi`], [`observer_ebpf::packet`] |
//! | [`app`] | the daemon: start, threads, stop | all |
//! | [`verbs`] | the work of each verb of the command line | all |
//! | [`linux`] | the operating system's interfaces used by several rooms: namespaces, rtnetlink, ethtool, control groups, the clock | – |
//! | [`log`] | the log on standard error, which never blocks | – |
//! | [`http`] | HTTP clients | – |
//! | [`text_file`] | text files that users write | – |
//! | [`worker`] | threads with a deadline for their end | – |

pub mod accounts;
pub mod app;
pub mod cli;
pub mod config;
pub mod failure;
pub mod flow;
pub mod given;
pub mod http;
pub mod journal;
pub mod kernel;
pub mod limits;
pub mod linux;
pub mod log;
pub mod outputs;
pub mod record;
pub mod replay;
pub mod schema;
pub mod sink;
pub mod tasks;
pub mod telemetry;
pub mod text_file;
pub mod verbs;
pub mod worker;
