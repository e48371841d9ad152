//! Types of the values of flags, variables and configuration keys, and their parsing.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use bytesize::ByteSize;
use clap::ValueEnum;
use hyper::Uri;
use ipnet::IpNet;
use serde::Deserialize;

/// Parses a number of bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<ByteSize, InvalidSize> {
    text.parse().map_err(|_| InvalidSize)
}

/// Parses a network.
pub(super) fn block(text: &str) -> Result<IpNet, InvalidBlock> {
    text.parse().map_err(|_| InvalidBlock)
}

/// Parses a network, or an address as a network of one address.
pub(super) fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| InvalidNetwork(text.into()))
}

/// Error of a size without a number, or with an unknown unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a number of bytes, or one with a unit such as 75MB or 64MiB")]
pub struct InvalidSize;

/// Error of an invalid CIDR block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a CIDR block such as 10.0.0.0/16")]
pub struct InvalidBlock;

/// Error of a text that is neither a CIDR block nor an IP address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a network nor an address")]
pub struct InvalidNetwork(String);

/// Values of `--output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Output {
    /// JSON lines, one flat object per record
    Jsonl,
    /// Text in the format of VPC Flow Logs in S3
    Text,
    /// Parquet in the format of VPC Flow Logs in S3
    Parquet,
    /// Text without a header on standard output, for log shippers
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
    /// XDP on ingress, TC on egress; TC on both if XDP is not possible
    Xdp,
}

/// Values of `--xdp-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpModeName {
    /// Native if that changes nothing, else generic if that changes nothing
    Auto,
    /// In the driver
    Native,
    /// Before the network stack
    Generic,
}

/// Values of `--xdp-changes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum XdpChanges {
    /// Count at TC on this interface
    Refuse,
    /// Attach XDP anyway
    Accept,
}

/// Values of `--attach`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AttachName {
    /// The best that the kernel supports
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
    /// If the kernel shows them
    Auto,
    /// Never
    Off,
}

/// Values of `--source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceName {
    /// The Docker Engine: containers of each task
    Docker,
    /// Network namespaces of containers and tasks
    Netns,
    /// The host's own interfaces
    Host,
    /// The ECS agent's state on disk: IDs of ENIs, also of branch ENIs
    Agent,
    /// The ECS agent's introspection endpoint: tasks and the container instance
    Introspection,
    /// The task metadata endpoint: services
    Tmds,
    /// The instance metadata service: the instance and its ENIs
    Imds,
    /// The Amazon ECS API, if credentials allow: IDs of ENIs, services
    Api,
    /// The file of --tasks-file
    File,
}

/// Address of the HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ListenAddress(SocketAddr);

/// Error of an invalid address of the HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "give an IP address and a port, such as 127.0.0.1:9810, localhost:9810, or 0.0.0.0:9810 for all IPv4 addresses"
)]
pub struct InvalidListenAddress;

impl ListenAddress {
    /// The address.
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidListenAddress;

    fn from_str(text: &str) -> Result<Self, InvalidListenAddress> {
        // Other host names may resolve to several addresses, or to none at the next start.
        let port = text.strip_prefix("localhost:").and_then(|port| port.parse().ok());
        let address = match port {
            Some(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
            None => text.parse(),
        };
        address.map(Self).map_err(|_| InvalidListenAddress)
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = InvalidListenAddress;

    fn try_from(text: String) -> Result<Self, InvalidListenAddress> {
        text.parse()
    }
}

/// URL of a link-local endpoint, `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error of a URL without the scheme `http` or without a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no URL like http://127.0.0.1:51678")]
pub struct InvalidHttpUrl(String);

impl FromStr for HttpUrl {
    type Err = InvalidHttpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHttpUrl> {
        let url: Option<Uri> = text.parse().ok();
        match url {
            Some(url)
                if url.scheme_str() == Some("http") && url.host().is_some_and(|host| !host.is_empty()) =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(InvalidHttpUrl(text.into())),
        }
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = InvalidHttpUrl;

    fn try_from(text: String) -> Result<Self, InvalidHttpUrl> {
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
