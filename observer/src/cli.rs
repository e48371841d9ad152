//! The command line. What a flag means and its default stand in [`config`](crate::config).

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};
use hyper::Uri;
use ipnet::IpNet;
use serde::Deserialize;

use crate::{sink::Checksum, tasks::Mac};

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
    #[command(after_help = SIGNALS)]
    Run(Box<RunArgs>),
    /// Tell whether this host can be observed, and what is missing; with --hook xdp, also where XDP could count
    Check(Box<CheckArgs>),
    /// Turn a capture into records, by the same programs
    Replay(Box<ReplayArgs>),
    /// Print how a reader is told of the files that `run` would write with the same flags
    Schema(Box<SchemaArgs>),
    /// Show tasks, their interfaces, what is known of each and who said it, and what is missing
    Tasks(Box<TasksArgs>),
    /// Print the configuration that `run` would use, as a file for --config
    Config(Box<RunArgs>),
}

/// The effect of each signal on the daemon: shown below the flags of `observer run --help`.
pub const SIGNALS: &str = "Signals:
  TERM INT QUIT    Stop: take the programs off, write the last records, deliver. Takes --stop-timeout at most; what is not
                   written by then is counted as lost and logged, and the exit code is 1. A second one ends the wait
  HUP              Go on. Nothing needs a reload: files rotate by themselves, the tasks file and all sources are followed,
                   and settings are read at the start alone
  USR1 USR2 ALRM   Go on; each is logged
  PIPE             Go on: a standard output without a reader is an error of that output
  TSTP TTIN TTOU   Stand still until CONT. The kernel goes on counting, and nothing is lost while its tables have room";

/// Flags of `observer check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// As JSON
    #[arg(long)]
    pub json: bool,
    /// What `run` would be given.
    #[command(flatten)]
    pub run: RunArgs,
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

/// Flags of `observer tasks`.
#[derive(Debug, Args)]
pub struct TasksArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Ask the sources even where a daemon runs that could tell
    #[arg(long)]
    pub no_daemon: bool,
    /// Where the daemon listens, and which sources are asked if there is none.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of `observer schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Who is to read the files
    #[arg(value_enum)]
    pub reader: Reader,
    /// How they are written.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Readers that `observer schema` knows.
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

/// What can be set, by flag, by variable and in the file, in this order of weight.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Settings {
    /// What becomes of records. In the file its keys stand beside the others.
    #[command(flatten)]
    #[serde(skip)]
    pub records: RecordSettings,
    /// Where finished files are put, and then removed: `s3://BUCKET/PREFIX`, gs, az, or `file:///FOLDER`
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER")]
    pub deliver: Option<String>,
    /// Address of the S3 service, where it is not Amazon's
    #[arg(long, value_name = "URL", env = "OBSERVER_DELIVER_ENDPOINT")]
    pub deliver_endpoint: Option<String>,
    /// KMS key that objects in S3 are encrypted with: id, ARN or alias [default: as the bucket says]
    #[arg(long, value_name = "KEY", env = "OBSERVER_DELIVER_KMS_KEY")]
    pub deliver_kms_key: Option<String>,
    /// Checksum that goes to S3 with each object; buckets with Object Lock demand one [default: sha256]
    #[arg(long, value_name = "ALGORITHM", env = "OBSERVER_DELIVER_CHECKSUM")]
    pub deliver_checksum: Option<Checksum>,
    /// CA certificates (PEM) to trust instead of the system's, for stores and AWS's API [default: file of `AWS_CA_BUNDLE`]
    #[arg(long, value_name = "FILE", env = "OBSERVER_CA_BUNDLE")]
    pub ca_bundle: Option<PathBuf>,
    /// Files that may wait to be delivered, or that the store refuses; beyond it the oldest are dropped [default: 1GiB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_SPOOL_SIZE", value_parser = size)]
    pub spool_size: Option<ByteSize>,
    /// Seconds that a stop may take; what is not written by then is counted as lost [default: 15]
    #[arg(long, value_name = "SECONDS", env = "OBSERVER_STOP_TIMEOUT", value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub stop_timeout: Option<u32>,
    /// IP address, or localhost, and port of /metrics, /healthz and /readyz [default: 127.0.0.1:9810]
    #[arg(long, value_name = "ADDR", env = "OBSERVER_LISTEN")]
    pub listen: Option<ListenAddress>,
    /// Where packets are counted [default: tc]
    #[arg(long, value_name = "HOOK", env = "OBSERVER_HOOK")]
    pub hook: Option<HookName>,
    /// Where XDP runs: in the driver, in front of the stack, or the first of these that changes nothing [default: auto]
    #[arg(long, value_name = "MODE", env = "OBSERVER_XDP_MODE")]
    pub xdp_mode: Option<XdpModeName>,
    /// What to do where XDP would switch offloads, restart queues or lower MTU limits [default: refuse]
    #[arg(long, value_name = "WHAT", env = "OBSERVER_XDP_CHANGES")]
    pub xdp_changes: Option<XdpChanges>,
    /// How TC programs are attached: TCX where the kernel has it (Linux 6.6), else clsact [default: auto]
    #[arg(long, value_name = "HOW", env = "OBSERVER_ATTACH")]
    pub attach: Option<AttachName>,
    /// Flows in one window, each of about 100 bytes; an interface within its share may make more [default: 2000000, or
    /// as many as fit into the memory limit of the control group or a quarter of the host's memory]
    #[arg(long, value_name = "COUNT", env = "OBSERVER_MAX_FLOWS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_flows: Option<u32>,
    /// Whether packets that the host's policy drops become REJECT records; auto: where the kernel shows them [default: auto]
    #[arg(long, value_name = "WHETHER", env = "OBSERVER_DROPS")]
    pub drops: Option<DropsName>,
    /// Kernel memory for flows, for the whole host [default: 64MiB, or an eighth of the memory limit if that is less]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FLOW_MEMORY", value_parser = size)]
    pub flow_memory: Option<ByteSize>,
    /// Who is asked about namespaces and tasks; may be given several times [default: all that answer]
    #[arg(long, value_name = "NAME", env = "OBSERVER_SOURCE", value_delimiter = ',')]
    pub source: Vec<SourceName>,
    /// Folder of network namespace files, or /proc for the namespaces of running processes; may be given several
    /// times [default: /run/netns, /run/docker/netns, /proc]
    #[arg(long, value_name = "DIR", env = "OBSERVER_NETNS_DIR", value_delimiter = ',')]
    pub netns_dir: Vec<PathBuf>,
    /// Socket of the Docker Engine [default: /var/run/docker.sock]
    #[arg(long, value_name = "PATH", env = "OBSERVER_DOCKER_SOCKET")]
    pub docker_socket: Option<PathBuf>,
    /// Folder of the ECS agent's state [default: /var/lib/ecs/data]
    #[arg(long, value_name = "DIR", env = "OBSERVER_AGENT_DATA")]
    pub agent_data: Option<PathBuf>,
    /// The ECS agent's introspection endpoint [default: HTTP at 127.0.0.1:51678]
    #[arg(long, value_name = "URL", env = "OBSERVER_INTROSPECTION_URL")]
    pub introspection_url: Option<HttpUrl>,
    /// The task metadata endpoint, as the host reaches it [default: HTTP at 127.0.0.1:51679]
    #[arg(long, value_name = "URL", env = "OBSERVER_TMDS_URL")]
    pub tmds_url: Option<HttpUrl>,
    /// The instance metadata service [default: HTTP at 169.254.169.254]
    #[arg(long, value_name = "URL", env = "OBSERVER_IMDS_URL")]
    pub imds_url: Option<HttpUrl>,
    /// The Amazon ECS API [default: AWS's, in the region of the tasks]
    #[arg(long, value_name = "URL", env = "OBSERVER_API_URL")]
    pub api_url: Option<HttpUrl>,
    /// Saved output of `aws ecs describe-tasks`, which ties MAC addresses to ENIs and tasks
    #[arg(long, value_name = "FILE", env = "OBSERVER_TASKS_FILE")]
    pub tasks_file: Option<PathBuf>,
    /// Lock and private files [default: /run/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// Folder on a BPF file system for pinned maps [default: /sys/fs/bpf/observer]
    #[arg(long, value_name = "DIR", env = "OBSERVER_BPFFS")]
    pub bpffs: Option<PathBuf>,
    /// What is logged to standard error; debug switches on the programs' own diagnostics, trace those of the libraries
    /// as well [default: info]
    #[arg(long, value_name = "LEVEL", env = "OBSERVER_LOG_LEVEL")]
    pub log_level: Option<LogLevel>,
}

/// What becomes of records: for `run` and `replay` alike.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RecordSettings {
    /// Where record files go [default: /var/log/observer; of replay: none]
    #[arg(long, value_name = "DIR", env = "OBSERVER_OUTPUT_DIR")]
    pub output_dir: Option<PathBuf>,
    /// What is written; may be given several times [default: jsonl; of replay: stdout, jsonl with
    /// --output-dir]
    #[arg(long, value_name = "FORMAT", env = "OBSERVER_OUTPUT", value_delimiter = ',')]
    pub output: Vec<Output>,
    /// Seconds over which flows are summed, 1 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS", env = "OBSERVER_WINDOW", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub window: Option<u32>,
    /// Fields of text and Parquet: v2, ecs, all, or AWS's own syntax, '${srcaddr} ${dstaddr} …' [default: v2]
    #[arg(long, value_name = "FMT", env = "OBSERVER_LOG_FORMAT")]
    pub log_format: Option<String>,
    /// Folders of files: by day, by hour, or the same in the manner of Hive [default: none]
    #[arg(long, value_name = "HOW", env = "OBSERVER_PARTITION")]
    pub partition: Option<PartitionName>,
    /// Account of interfaces of which no source knows it
    #[arg(long, value_name = "ID", env = "OBSERVER_ACCOUNT_ID")]
    pub account_id: Option<String>,
    /// Region of interfaces of which no source knows it
    #[arg(long, value_name = "NAME", env = "OBSERVER_REGION")]
    pub region: Option<String>,
    /// Flow log that the files' names say they belong to [default: one made from the host's id]
    #[arg(long, value_name = "ID", env = "OBSERVER_FLOW_LOG_ID")]
    pub flow_log_id: Option<String>,
    /// Size at which a file is finished before its five minutes are over [default: 75MB]
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FILE_SIZE", value_parser = size)]
    pub file_size: Option<ByteSize>,
    /// Leave out NODATA records
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_NO_NODATA",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub no_nodata: Option<bool>,
    /// Leave out what AWS never logs: DHCP, Amazon's DNS, time, metadata and licence servers, the VPC router
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_AWS_PARITY",
        num_args = 0..=1,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub aws_parity: Option<bool>,
    /// Which records are written: 'keep CONDITION …' or 'drop CONDITION …', such as 'drop port=53 protocol=udp'. Of
    /// several, the first that a record meets decides; conditions are on addr, srcaddr, dstaddr, port, srcport, dstport,
    /// protocol, direction, action, interface and service. Metrics count all the same
    #[arg(long, value_name = "RULE", env = "OBSERVER_FILTER", value_delimiter = ';')]
    pub filter: Vec<String>,
    /// Copy of AWS's ip-ranges.json, for pkt-src-aws-service and pkt-dst-aws-service
    #[arg(long, value_name = "FILE", env = "OBSERVER_IP_RANGES")]
    pub ip_ranges: Option<PathBuf>,
    /// Addresses of the VPC, the primary block first, for traffic-path; may be given several times
    #[arg(long, value_name = "CIDR", env = "OBSERVER_VPC_CIDR", value_delimiter = ',', value_parser = block)]
    pub vpc_cidr: Vec<IpNet>,
}

/// Flags of `observer replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// Capture in the format pcap or pcapng; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Network or address on the interface's side: packets from there are egress, packets to there ingress. May be
    /// given several times
    #[arg(long, value_name = "CIDR", value_parser = network)]
    pub local: Vec<IpNet>,
    /// MAC address of the interface: heard before --local, and a part of the records
    #[arg(long, value_name = "MAC")]
    pub local_mac: Option<Mac>,
    /// MTU of the interface, beyond which a packet is a super-packet of several on the wire [default: what connections
    /// in the capture announce, 1500 at least]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(576..=65535))]
    pub mtu: Option<u32>,
    /// Saved output of `aws ecs describe-tasks`, of which the ENI with --local-mac is taken
    #[arg(long, value_name = "FILE", requires = "local_mac")]
    pub tasks_file: Option<PathBuf>,
    /// Print the report on standard error as JSON
    #[arg(long)]
    pub json: bool,
    /// What becomes of records. Without any of it they are printed.
    #[command(flatten)]
    pub records: RecordSettings,
}

/// A number of bytes.
fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "give a number of bytes, or one with a unit such as 75MB or 64MiB".into())
}

/// A network.
fn block(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| "give a CIDR block such as 10.0.0.0/16".into())
}

/// A network, or an address as a network of its own.
fn network(text: &str) -> Result<IpNet, String> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| format!("{text:?} is neither a network nor an address"))
}

/// Formats of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// JSON lines, one flat object per record
    Jsonl,
    /// Text as VPC Flow Logs writes it to S3
    Text,
    /// Parquet as VPC Flow Logs writes it to S3
    Parquet,
    /// Text without header on standard output, for log shippers
    Stdout,
}

/// Values of `--partition`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionName {
    /// …/YYYY/MM/DD
    None,
    /// …/YYYY/MM/DD/HH
    Hourly,
    /// …/year=YYYY/month=MM/day=DD
    Hive,
    /// …/year=YYYY/month=MM/day=DD/hour=HH
    HiveHourly,
}

/// Values of `--hook`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookName {
    /// TC on ingress and egress
    Tc,
    /// XDP on ingress, TC on egress; TC on both where XDP cannot be
    Xdp,
}

/// Values of `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpModeName {
    /// Native where that changes nothing, else generic where that changes nothing
    Auto,
    /// In the driver
    Native,
    /// In front of the stack
    Generic,
}

/// Values of `--xdp-changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpChanges {
    /// Count at TC there
    Refuse,
    /// Put XDP there all the same
    Accept,
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

/// Values of `--drops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropsName {
    /// Where the kernel shows them
    Auto,
    /// Never
    Off,
}

/// Values of `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceName {
    /// The Docker Engine: which containers belong to which task
    Docker,
    /// Network namespaces of containers and tasks
    Netns,
    /// The host's own interfaces
    Host,
    /// The ECS agent's state on disk: ids of ENIs, also of branch ENIs
    Agent,
    /// The ECS agent's introspection endpoint: tasks and the container instance
    Introspection,
    /// The task metadata endpoint: services
    Tmds,
    /// The instance metadata service: the instance and its ENIs
    Imds,
    /// The Amazon ECS API, where credentials allow: ids of ENIs, services
    Api,
    /// The file of --tasks-file
    File,
}

/// Where the HTTP server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddress(SocketAddr);

/// A text is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give an IP address and a port, such as 127.0.0.1:9810, localhost:9810, or 0.0.0.0:9810 for all IPv4 addresses"
)]
pub struct NoListenAddress;

impl ListenAddress {
    /// The address.
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for ListenAddress {
    type Err = NoListenAddress;

    fn from_str(text: &str) -> Result<Self, NoListenAddress> {
        // Other names may be of several addresses, or of none by the time of the next start.
        let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = match port {
            Some(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse(),
        };
        address.map(Self).map_err(|_| NoListenAddress)
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = NoListenAddress;

    fn try_from(text: String) -> Result<Self, NoListenAddress> {
        text.parse()
    }
}

/// `http://host[:port]`: what link-local endpoints speak.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HttpUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: Option<Uri> = text.parse().ok();
        match url {
            Some(url)
                if url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty()) =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(format!("{text:?} is no URL like http://127.0.0.1:51678")),
        }
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
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
