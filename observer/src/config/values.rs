//! Types of the values of flags, variables and configuration keys, and their parsing.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use bytesize::ByteSize;
use hyper::Uri;
use ipnet::IpNet;
use nix::unistd::Group;
use serde::Serialize;

/// Parses a number of bytes, with or without a unit.
pub(super) fn size(text: &str) -> Result<ByteSize, InvalidSize> {
    text.parse().map_err(|_| InvalidSize)
}

/// Parses a network.
pub(super) fn block(text: &str) -> Result<IpNet, InvalidBlock> {
    text.parse().map_err(|_| InvalidBlock)
}

/// Parses a network, or an address as a network of one address.
pub(crate) fn network(text: &str) -> Result<IpNet, InvalidNetwork> {
    let address = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| address()).map_err(|_| InvalidNetwork(text.into()))
}

/// Error of a size without a number, or with an unknown unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a number of bytes, or one with a unit such as 75MB or 64MiB")]
pub(super) struct InvalidSize;

/// Error of an invalid CIDR block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a CIDR block such as 10.0.0.0/16")]
pub(super) struct InvalidBlock;

/// Error of a text that is neither a CIDR block nor an IP address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a network nor an address")]
pub(crate) struct InvalidNetwork(String);

/// A group of the host, by name or ID.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct UserGroup {
    name: String,
    id: u32,
}

/// Error of a group that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host has no such group: give the name of a group, or its ID")]
pub struct NoSuchGroup;

impl UserGroup {
    /// Its ID.
    pub const fn id(&self) -> u32 {
        self.id
    }
}

impl FromStr for UserGroup {
    type Err = NoSuchGroup;

    fn from_str(text: &str) -> Result<Self, NoSuchGroup> {
        let by_name = || Some(Group::from_name(text).ok()??.gid.as_raw());
        let id = text.parse().ok().or_else(by_name).ok_or(NoSuchGroup)?;
        Ok(Self { name: text.to_owned(), id })
    }
}

impl From<UserGroup> for String {
    fn from(group: UserGroup) -> Self {
        group.name
    }
}

/// Address of the HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
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

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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

/// URL of a link-local endpoint, `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HttpUrl(String);

impl HttpUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Error of a URL without the scheme `http` or a host, or with credentials, which `observer config`
/// would print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("give a URL such as http://127.0.0.1:51678, without a user name or password")]
pub struct InvalidHttpUrl;

impl FromStr for HttpUrl {
    type Err = InvalidHttpUrl;

    fn from_str(text: &str) -> Result<Self, InvalidHttpUrl> {
        let url: Option<Uri> = text.parse().ok();
        match url {
            Some(url)
                if url.scheme_str() == Some("http")
                    && url.host().is_some_and(|host| !host.is_empty())
                    && !url.authority().is_some_and(|it| it.as_str().contains('@')) =>
            {
                Ok(Self(text.trim_end_matches('/').to_owned()))
            }
            _ => Err(InvalidHttpUrl),
        }
    }
}
