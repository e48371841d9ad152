use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgAction, Args, builder::BoolishValueParser, value_parser};
use ipnet::IpNet;
use serde::Serialize;

use super::{
    super::values::{block, size},
    bytes,
};
use crate::sink::Partition;

/// Settings of records and their files, for `run` and `replay`.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Records")]
#[serde(rename_all = "kebab-case")]
pub struct RecordSettings {
    /// Length of a window in seconds, 1 to 600
    #[arg(
        long,
        value_name = "SECONDS",
        env = "OBSERVER_WINDOW",
        value_parser = value_parser!(u32).range(1..=600),
        default_value = "60"
    )]
    pub window: u32,
    /// Fields of text and Parquet: v2, ecs, all, or a list in AWS's syntax, '${srcaddr} ${dstaddr}
    /// …'
    #[arg(long, value_name = "FMT", env = "OBSERVER_LOG_FORMAT", default_value = "v2")]
    pub log_format: String,
    /// Folders of record files: by day, by hour, or either in Hive style
    #[arg(long, value_name = "LAYOUT", env = "OBSERVER_PARTITION", default_value = "none")]
    pub partition: Partition,
    /// Account ID to use when no source provides one
    #[arg(long, value_name = "ID", env = "OBSERVER_ACCOUNT_ID")]
    pub account_id: Option<String>,
    /// Region to use when no source provides one
    #[arg(long, value_name = "NAME", env = "OBSERVER_REGION")]
    pub region: Option<String>,
    /// Flow log ID in file names [default: derived from the host's ID]
    #[arg(long, value_name = "ID", env = "OBSERVER_FLOW_LOG_ID")]
    pub flow_log_id: Option<String>,
    /// Size at which a file is finished before its five minutes end. The default is the maximum
    /// that AWS documents for its files
    #[arg(long, value_name = "SIZE", env = "OBSERVER_FILE_SIZE", value_parser = size, default_value = "75MB")]
    #[serde(serialize_with = "bytes")]
    pub file_size: ByteSize,
    /// Omit NODATA records
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_NO_NODATA",
        action = ArgAction::Set,
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        value_parser = BoolishValueParser::new()
    )]
    pub no_nodata: bool,
    /// Omit traffic that AWS never logs: DHCP, Amazon's DNS, time, metadata and licence servers,
    /// the VPC router
    #[arg(
        long,
        value_name = "BOOL",
        env = "OBSERVER_AWS_PARITY",
        action = ArgAction::Set,
        num_args = 0..=1,
        default_value = "false",
        default_missing_value = "true",
        hide_default_value = true,
        value_parser = BoolishValueParser::new()
    )]
    pub aws_parity: bool,
    /// Rule that selects records: 'keep CONDITION …' or 'drop CONDITION …', such as 'drop port=53
    /// protocol=udp'. The first matching rule decides; conditions are on addr, srcaddr, dstaddr,
    /// port, srcport, dstport, protocol, direction, action, interface and service. Metrics count
    /// all traffic; may be given several times
    #[arg(long, value_name = "RULE", env = "OBSERVER_FILTER", value_delimiter = ';')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<String>,
    /// Copy of AWS's ip-ranges.json, for pkt-src-aws-service and pkt-dst-aws-service
    #[arg(long, value_name = "FILE", env = "OBSERVER_IP_RANGES")]
    pub ip_ranges: Option<PathBuf>,
    /// CIDR blocks of the VPC, the primary block first, for traffic-path; may be given several
    /// times
    #[arg(long, value_name = "CIDR", env = "OBSERVER_VPC_CIDR", value_delimiter = ',', value_parser = block)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpc_cidr: Vec<IpNet>,
}
