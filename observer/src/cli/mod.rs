//! The command line: verbs, and their own flags. The settings of `run` are in
//! [`config`](crate::config).

#[cfg(test)]
mod surface;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgMatches, Args, CommandFactory as _, Error, FromArgMatches as _, Parser, Subcommand,
    value_parser,
};
use ipnet::IpNet;

use crate::{
    config::{RecordSettings, Settings, network},
    schema::Reader,
    sink::Output,
    tasks::Mac,
};

/// Per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
#[derive(Debug, Parser)]
#[command(name = "observer", version, max_term_width = 110)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Parses arguments, the first of which is the program's name. The matches are those of the
    /// verb.
    pub fn parsed(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, ArgMatches), Error> {
        let mut matches = Self::command().try_get_matches_from(arguments)?;
        let cli = Self::from_arg_matches(&matches)?;
        let verb = matches.remove_subcommand().map(|(_, matches)| matches);
        Ok((cli, verb.unwrap_or_default()))
    }
}

/// Verbs of the command line.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon: observe this host
    #[command(after_help = SIGNALS)]
    Run(Box<RunArgs>),
    /// Check if this host can be observed, and list what is missing; with --hook xdp, also where
    /// XDP can count
    Check(Box<CheckArgs>),
    /// Convert a packet capture to records, with the same programs
    Replay(Box<ReplayArgs>),
    /// Print a table definition or pipeline configuration for reading the files that `run` writes
    Schema(Box<SchemaArgs>),
    /// Show tasks and their interfaces, with the source of each value and missing values
    Tasks(Box<TasksArgs>),
    /// Detach the programs that a killed daemon, or one with --on-stop keep, has left on interfaces,
    /// and remove its maps. Traffic that they have counted since is in no record
    Detach(Box<RunArgs>),
    /// Print the configuration that `run` would use, as a file for --config
    Config(Box<RunArgs>),
}

/// Effect of each signal on the daemon, shown at the end of `observer run --help`.
pub const SIGNALS: &str = "Signals:
  TERM INT QUIT    Stop: detach the programs (or not: --on-stop), write the last records, deliver files. Takes
                   --stop-timeout at most; records not written by then are counted as lost and logged, and the exit
                   code is 1. A second signal ends the wait
  KILL             Ends the daemon at once. Its programs go on counting; the next start records everything
  HUP              Ignored and logged. Nothing needs a reload: files rotate by themselves, the tasks file and all sources
                   are followed, and settings are read only at the start
  USR1 USR2 ALRM   Ignored and logged
  PIPE             Ignored: a standard output without a reader is an error of that output
  TSTP TTIN TTOU   Pause until CONT. The kernel goes on counting, and nothing is lost while its tables have room";

/// Flags of `observer check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `observer run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file (TOML); its keys are the flags below
    #[arg(long, value_name = "FILE", env = "OBSERVER_CONFIG")]
    pub config: Option<PathBuf>,
    /// Settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// Flags of `observer tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Query the sources even if a daemon is running
    #[arg(long)]
    pub no_daemon: bool,
    /// Address of the daemon, and sources to query if it does not respond.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `observer schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Reader of the files
    #[arg(value_enum)]
    pub reader: Reader,
    /// Settings of the files.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `observer replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Capture in pcap or pcapng format; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Network or address on the interface's side: packets from there are egress, packets to there
    /// ingress. May be given several times
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub local: Vec<IpNet>,
    /// MAC address of the interface; takes precedence over --local, and appears in records
    #[arg(long, value_name = "MAC")]
    pub local_mac: Option<Mac>,
    /// MTU of the interface; longer packets count as several on the wire [default: the MTU that
    /// connections in the capture announce, at least 1500]
    #[arg(long, value_name = "BYTES", value_parser = value_parser!(u32).range(576..=65535))]
    pub mtu: Option<u32>,
    /// Saved output of `aws ecs describe-tasks`, for the ENI with --local-mac
    #[arg(long, value_name = "FILE", requires = "local_mac")]
    pub tasks_file: Option<PathBuf>,
    /// Print the report on standard error as JSON
    #[arg(long)]
    pub json: bool,
    /// Directory of record files
    #[arg(long, value_name = "DIR", env = "OBSERVER_OUTPUT_DIR")]
    pub output_dir: Option<PathBuf>,
    /// Output format; may be given several times [default: stdout, or jsonl with --output-dir]
    #[arg(long, value_name = "FORMAT", env = "OBSERVER_OUTPUT", value_delimiter = ',')]
    pub output: Vec<Output>,
    /// Settings of records.
    #[command(flatten)]
    pub records: RecordSettings,
}
