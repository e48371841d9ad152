//! The command line. What a flag means and its default stand in [`config`](crate::config).

use std::{net::SocketAddr, path::PathBuf};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Deserialize;

/// Per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
#[derive(Debug, Parser)]
#[command(name = "observer", version, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Observe this host: the daemon
    Run(Box<RunArgs>),
    /// Tell whether this host can be observed, and what is missing
    Check,
    /// Print the configuration that `run` would use, as a file for --config
    Config(Box<RunArgs>),
}

/// Flags of `observer run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (TOML); its keys are the flags below
    #[arg(long, value_name = "FILE", env = "OBSERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// The settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// What can be set, by flag, by variable and in the file, in this order of weight.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Where record files go [default: /var/log/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_OUTPUT_DIR")]
    pub output_dir: Option<PathBuf>,
    /// What is written; may be given several times [default: jsonl]
    #[arg(long, value_name = "FORMAT", env = "OBSERVER_OUTPUT", value_delimiter = ',')]
    pub output: Vec<Output>,
    /// Seconds over which flows are summed, 1 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS", env = "OBSERVER_WINDOW", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub window: Option<u32>,
    /// Address of /metrics, /healthz and /readyz [default: 127.0.0.1:9810]
    #[arg(long, value_name = "ADDR", env = "OBSERVER_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// Where packets are counted [default: tc]
    #[arg(long, value_name = "HOOK", env = "OBSERVER_HOOK")]
    pub hook: Option<HookName>,
    /// How TC programs are attached: TCX where the kernel has it (Linux 6.6), else clsact [default: auto]
    #[arg(long, value_name = "HOW", env = "OBSERVER_ATTACH")]
    pub attach: Option<AttachName>,
    /// Flows in one window, each of about 100 bytes; an interface within its share may make more [default: 2000000]
    #[arg(long, value_name = "COUNT", env = "OBSERVER_MAX_FLOWS")]
    pub max_flows: Option<u32>,
    /// Kernel memory for flows, for the whole host [default: 64MiB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FLOW_MEMORY")]
    pub flow_memory: Option<ByteSize>,
    /// Who is asked about namespaces and tasks; may be given several times [default: all that answer]
    #[arg(long, value_name = "NAME", env = "OBSERVER_SOURCE", value_delimiter = ',')]
    pub source: Vec<SourceName>,
    /// Folder of network namespace files, or /proc for the namespaces of running processes; may be given several
    /// times [default: /run/netns, /run/docker/netns, /proc]
    #[arg(long, value_name = "DIR", env = "OBSERVER_NETNS_DIR", value_delimiter = ',')]
    pub netns_dir: Vec<PathBuf>,
    /// Saved output of `aws ecs describe-tasks`, which ties MAC addresses to ENIs and tasks
    #[arg(long, value_name = "FILE", env = "OBSERVER_TASKS_FILE")]
    pub tasks_file: Option<PathBuf>,
    /// Lock and private files [default: /run/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Folder on a BPF file system for pinned maps [default: /sys/fs/bpf/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_BPFFS")]
    pub bpffs: Option<PathBuf>,
    /// What is logged to standard error; debug also switches on the programs' own diagnostics [default: info]
    #[arg(long, value_name = "LEVEL", env = "OBSERVER_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// Formats of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// JSON lines, one flat object per record
    Jsonl,
    /// Text as VPC Flow Logs writes it to S3
    Text,
    /// Text without header on standard output, for log shippers
    Stdout,
}

/// Values of `--hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookName {
    /// TC on ingress and egress
    Tc,
}

/// Values of `--attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachName {
    /// The best that the kernel has
    Auto,
    /// TCX links
    Tcx,
    /// Filters on a clsact qdisc
    Clsact,
}

/// Values of `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceName {
    /// Network namespaces of containers and tasks
    Netns,
    /// The host's own interfaces
    Host,
    /// The file of --tasks-file
    File,
}

/// Values of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the levels of every logger")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
