//! The command line. Meanings and defaults of the flags are in [`config`](crate::config).

mod values;

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use ipnet::IpNet;
use serde::Deserialize;

pub use self::values::{
    AttachName, DropsName, HookName, HttpUrl, InvalidBlock, InvalidHttpUrl, InvalidListenAddress,
    InvalidNetwork, InvalidSize, ListenAddress, LogLevel, Output, PartitionName, SourceName, XdpChanges,
    XdpModeName,
};
use self::values::{block, network, size};
use crate::{sink::Checksum, tasks::Mac};

/// Per-ENI flow records in the shape of VPC Flow Logs, counted in the kernel.
#[derive(Debug, Parser)]
#[command(name = "observer", version, max_term_width = 110)]
pub struct Cli {
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
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
    /// Print the configuration that `run` would use, as a file for --config
    Config(Box<RunArgs>),
}

/// Effect of each signal on the daemon, shown at the end of `observer run --help`.
pub const SIGNALS: &str = "Signals:
  TERM INT QUIT    Stop: detach the programs, write the last records, deliver files. Takes --stop-timeout at most; records
                   not written by then are counted as lost and logged, and the exit code is 1. A second signal ends the
                   wait
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

/// Readers supported by `observer schema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Reader {
    /// A table of Amazon Athena, with partition projection
    Athena,
    /// A view of DuckDB
    Duckdb,
    /// A view of ClickHouse
    Clickhouse,
    /// A pipeline of Vector
    Vector,
    /// A pipeline of the OpenTelemetry Collector
    Otel,
    /// JSON Schema of a JSON line
    Json,
}

/// Settings from flags, variables and the configuration file, in this order of precedence.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// Settings of records. In the file their keys are at the top level too.
    #[command(flatten)]
    #[serde(skip)]
    pub records: RecordSettings,
    /// Destination of finished files, which are then removed: `s3://BUCKET/PREFIX`, gs, az, or
    /// `file:///FOLDER`
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER")]
    pub deliver: Option<String>,
    /// URL of an S3 service other than Amazon's
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER_ENDPOINT")]
    pub deliver_endpoint: Option<String>,
    /// KMS key for objects in S3: ID, ARN or alias [default: the bucket's setting]
    #[arg(long, value_name = "KEY", env = "OBSERVER_DELIVER_KMS_KEY")]
    pub deliver_kms_key: Option<String>,
    /// Checksum sent to S3 with each object; buckets with Object Lock require one [default: sha256]
    #[arg(long, value_name = "ALGORITHM", env = "OBSERVER_DELIVER_CHECKSUM")]
    pub deliver_checksum: Option<Checksum>,
    /// CA certificates (PEM) to trust instead of the system's, for stores and AWS APIs [default:
    /// file of `AWS_CA_BUNDLE`]
    #[arg(long, value_name = "FILE", env = "OBSERVER_CA_BUNDLE")]
    pub ca_bundle: Option<PathBuf>,
    /// Maximum size of files that wait for delivery or are refused; beyond it the oldest are
    /// dropped [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_SPOOL_SIZE", value_parser = size)]
    pub spool_size: Option<ByteSize>,
    /// Maximum duration of a stop in seconds; records not written by then are counted as lost
    /// [default: 15]
    #[arg(long, value_name = "SECONDS", env = "OBSERVER_STOP_TIMEOUT", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub stop_timeout: Option<u32>,
    /// IP address, or localhost, and port of /metrics, /healthz and /readyz [default:
    /// 127.0.0.1:9810]
    #[arg(long, value_name = "ADDR", env = "OBSERVER_LISTEN")]
    pub listen: Option<ListenAddress>,
    /// Hook that counts packets [default: tc]
    #[arg(long, value_name = "HOOK", env = "OBSERVER_HOOK")]
    pub hook: Option<HookName>,
    /// XDP mode: native (in the driver), generic (before the network stack), or the first that
    /// changes nothing [default: auto]
    #[arg(long, value_name = "MODE", env = "OBSERVER_XDP_MODE")]
    pub xdp_mode: Option<XdpModeName>,
    /// Action if XDP would switch offloads, restart queues or lower MTU limits [default: refuse]
    #[arg(long, value_name = "ACTION", env = "OBSERVER_XDP_CHANGES")]
    pub xdp_changes: Option<XdpChanges>,
    /// Attachment of TC programs: TCX if the kernel supports it (Linux 6.6), else clsact [default:
    /// auto]
    #[arg(long, value_name = "METHOD", env = "OBSERVER_ATTACH")]
    pub attach: Option<AttachName>,
    /// Maximum number of flows in one window, each about 100 bytes; an interface within its share
    /// may exceed it [default: 2000000, or as many as fit into the memory limit of the control
    /// group or a quarter of the host's memory]
    #[arg(long, value_name = "COUNT", env = "OBSERVER_MAX_FLOWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_flows: Option<u32>,
    /// Record packets dropped by host policy as REJECT; auto: if the kernel shows them [default:
    /// auto]
    #[arg(long, value_name = "MODE", env = "OBSERVER_DROPS")]
    pub drops: Option<DropsName>,
    /// Kernel memory for flows, for the whole host [default: 64MiB, or an eighth of the memory
    /// limit if that is less]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FLOW_MEMORY", value_parser = size)]
    pub flow_memory: Option<ByteSize>,
    /// Identity sources to query; may be given several times [default: all that respond]
    #[arg(long, value_name = "NAME", env = "OBSERVER_SOURCE", value_delimiter = ',')]
    pub source: Vec<SourceName>,
    /// Folder of network namespace files, or /proc for the namespaces of running processes; may be
    /// given several times [default: /run/netns, /run/docker/netns, /proc]
    #[arg(long, value_name = "DIR", env = "OBSERVER_NETNS_DIR", value_delimiter = ',')]
    pub netns_dir: Vec<PathBuf>,
    /// Socket of the Docker Engine [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH", env = "OBSERVER_DOCKER_SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// Folder of the ECS agent's state [default: /var/lib/ecs/data]
    #[arg(long, value_name = "DIR", env = "OBSERVER_AGENT_DATA")]
    pub agent_data: Option<PathBuf>,
    /// URL of the ECS agent's introspection endpoint [default: HTTP at 127.0.0.1:51678]
    #[arg(long, value_name = "URL", env = "OBSERVER_INTROSPECTION_URL")]
    pub introspection_url: Option<HttpUrl>,
    /// URL of the task metadata endpoint, as seen from the host [default: HTTP at 127.0.0.1:51679]
    #[arg(long, value_name = "URL", env = "OBSERVER_TMDS_URL")]
    pub tmds_url: Option<HttpUrl>,
    /// URL of the instance metadata service [default: HTTP at 169.254.169.254]
    #[arg(long, value_name = "URL", env = "OBSERVER_IMDS_URL")]
    pub imds_url: Option<HttpUrl>,
    /// URL of the Amazon ECS API [default: AWS's, in the region of the tasks]
    #[arg(long, value_name = "URL", env = "OBSERVER_API_URL")]
    pub api_url: Option<HttpUrl>,
    /// Saved output of `aws ecs describe-tasks`, which maps MAC addresses to ENIs and tasks
    #[arg(long, value_name = "FILE", env = "OBSERVER_TASKS_FILE")]
    pub tasks_file: Option<PathBuf>,
    /// Folder of the lock and private files [default: /run/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Folder on a BPF file system for pinned maps [default: /sys/fs/bpf/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_BPFFS")]
    pub bpffs: Option<PathBuf>,
    /// Log level on standard error; debug adds diagnostics of the programs, trace also those of the
    /// libraries [default: info]
    #[arg(long, value_name = "LEVEL", env = "OBSERVER_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// Settings of records, for `run` and `replay`.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RecordSettings {
    /// Directory of record files [default: /var/log/observer; for replay: none]
    #[arg(long, value_name = "DIR", env = "OBSERVER_OUTPUT_DIR")]
    pub output_dir: Option<PathBuf>,
    /// Output format; may be given several times [default: jsonl; for replay: stdout, jsonl with
    /// --output-dir]
    #[arg(long, value_name = "FORMAT", env = "OBSERVER_OUTPUT", value_delimiter = ',')]
    pub output: Vec<Output>,
    /// Length of a window in seconds, 1 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS", env = "OBSERVER_WINDOW", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub window: Option<u32>,
    /// Fields of text and Parquet: v2, ecs, all, or a list in AWS's syntax, '${srcaddr} ${dstaddr}
    /// …' [default: v2]
    #[arg(long, value_name = "FMT", env = "OBSERVER_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Folders of record files: by day, by hour, or either in Hive style [default: none]
    #[arg(long, value_name = "LAYOUT", env = "OBSERVER_PARTITION")]
    pub partition: Option<PartitionName>,
    /// Account ID to use when no source provides one
    #[arg(long, value_name = "ID", env = "OBSERVER_ACCOUNT_ID")]
    pub account_id: Option<String>,
    /// Region to use when no source provides one
    #[arg(long, value_name = "NAME", env = "OBSERVER_REGION")]
    pub region: Option<String>,
    /// Flow log ID in file names [default: derived from the host's ID]
    #[arg(long, value_name = "ID", env = "OBSERVER_FLOW_LOG_ID")]
    pub flow_log_id: Option<String>,
    /// Size at which a file is finished before its five minutes end [default: 75MB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FILE_SIZE", value_parser = size)]
    pub file_size: Option<ByteSize>,
    /// Omit NODATA records
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_NO_NODATA",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub no_nodata: Option<bool>,
    /// Omit traffic that AWS never logs: DHCP, Amazon's DNS, time, metadata and licence servers,
    /// the VPC router
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_AWS_PARITY",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub aws_parity: Option<bool>,
    /// Rule that selects records: 'keep CONDITION …' or 'drop CONDITION …', such as 'drop port=53
    /// protocol=udp'. The first matching rule decides; conditions are on addr, srcaddr, dstaddr,
    /// port, srcport, dstport, protocol, direction, action, interface and service. Metrics count
    /// all traffic; may be given several times
    #[arg(long, value_name = "RULE", env = "OBSERVER_FILTER", value_delimiter = ';')]
    pub filter: Vec<String>,
    /// Copy of AWS's ip-ranges.json, for pkt-src-aws-service and pkt-dst-aws-service
    #[arg(long, value_name = "FILE", env = "OBSERVER_IP_RANGES")]
    pub ip_ranges: Option<PathBuf>,
    /// CIDR blocks of the VPC, the primary block first, for traffic-path; may be given several
    /// times
    #[arg(long, value_name = "CIDR", env = "OBSERVER_VPC_CIDR", value_delimiter = ',', value_parser = block)]
    pub vpc_cidr: Vec<IpNet>,
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
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65535))]
    pub mtu: Option<u32>,
    /// Saved output of `aws ecs describe-tasks`, for the ENI with --local-mac
    #[arg(long, value_name = "FILE", requires = "local_mac")]
    pub tasks_file: Option<PathBuf>,
    /// Print the report on standard error as JSON
    #[arg(long)]
    pub json: bool,
    /// Settings of records. By default records are printed.
    #[command(flatten)]
    pub records: RecordSettings,
}
