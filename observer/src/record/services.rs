//! Address ranges of AWS's services, from a copy of
//! <https://ip-ranges.amazonaws.com/ip-ranges.json>.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use serde::Deserialize;

use crate::text_file::{EncodingError, utf8};

/// Services by prefix.
#[derive(Clone, Debug)]
pub struct ServiceRanges {
    v4: PrefixMap<Ipv4Net, u16>,
    v6: PrefixMap<Ipv6Net, u16>,
    names: Vec<Box<str>>,
}

/// Error of parsing the address ranges.
#[derive(Debug, thiserror::Error)]
pub enum ServiceRangesError {
    /// The file is not UTF-8 text.
    #[error("{0}")]
    Encoding(#[from] EncodingError),
    /// The file is not JSON of the expected structure.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The file holds no range.
    #[error("it names no range")]
    Empty,
    /// Invalid prefix.
    #[error("{0:?} is no prefix such as 3.5.140.0/22")]
    Prefix(String),
    /// Invalid service name.
    #[error("{0:?} is no name of a service")]
    Name(String),
}

/// The used part of the file.
#[derive(Deserialize)]
struct File {
    prefixes: Vec<Range4>,
    #[serde(default)]
    ipv6_prefixes: Vec<Range6>,
}

#[derive(Deserialize)]
struct Range4 {
    ip_prefix: String,
    service: String,
}

#[derive(Deserialize)]
struct Range6 {
    ipv6_prefix: String,
    service: String,
}

impl ServiceRanges {
    /// Parses the content of the file.
    pub fn parse(text: &[u8]) -> Result<Self, ServiceRangesError> {
        let File { prefixes, ipv6_prefixes } = serde_json::from_str(utf8(text)?)?;
        let four = prefixes.into_iter().map(|range| (range.ip_prefix, range.service));
        let six = ipv6_prefixes.into_iter().map(|range| (range.ipv6_prefix, range.service));
        let mut ranges = Vec::new();
        for (prefix, service) in four.chain(six) {
            let prefix: IpNet = prefix.parse().map_err(|_| ServiceRangesError::Prefix(prefix))?;
            if service.is_empty()
                || !service.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            {
                return Err(ServiceRangesError::Name(service));
            }
            ranges.push((prefix.trunc(), service));
        }
        if ranges.is_empty() {
            return Err(ServiceRangesError::Empty);
        }
        Ok(Self::new(ranges))
    }

    fn new(mut ranges: Vec<(IpNet, String)>) -> Self {
        // If several services list a prefix, the last and most specific one wins.
        ranges.sort_by_key(|(prefix, service)| (prefix.prefix_len(), telling(service)));
        let mut this = Self { v4: PrefixMap::new(), v6: PrefixMap::new(), names: Vec::new() };
        for (prefix, service) in ranges {
            // `AMAZON` includes all services, so within a range of another service it adds nothing.
            if telling(&service) == 0 && this.service(prefix.addr()).is_some() {
                continue;
            }
            let known = this.names.iter().position(|name| **name == *service);
            let number = known.unwrap_or_else(|| {
                this.names.push(service.into());
                this.names.len() - 1
            }) as u16;
            match prefix {
                IpNet::V4(prefix) => this.v4.insert(prefix, number),
                IpNet::V6(prefix) => this.v6.insert(prefix, number),
            };
        }
        this
    }

    /// The service with the longest prefix that contains the address.
    pub fn service(&self, address: IpAddr) -> Option<&str> {
        let number = match address {
            IpAddr::V4(address) => self.v4.get_lpm(&address.into()).map(|(_, number)| *number),
            IpAddr::V6(address) => self.v6.get_lpm(&address.into()).map(|(_, number)| *number),
        };
        Some(&self.names[usize::from(number?)])
    }
}

/// Specificity of a service name: `AMAZON` includes every service, and `EC2` many.
fn telling(service: &str) -> u8 {
    match service {
        "AMAZON" => 0,
        "EC2" => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "syncToken": "1", "createDate": "2026-11-01-00-00-00",
        "prefixes": [
            {"ip_prefix": "52.94.0.0/15", "region": "GLOBAL", "service": "AMAZON", "network_border_group": "GLOBAL"},
            {"ip_prefix": "52.95.128.0/21", "region": "ap-southeast-2", "service": "S3"},
            {"ip_prefix": "52.95.128.0/21", "region": "ap-southeast-2", "service": "AMAZON"},
            {"ip_prefix": "52.95.128.0/21", "region": "ap-southeast-2", "service": "EC2"},
            {"ip_prefix": "52.95.130.0/24", "region": "ap-southeast-2", "service": "AMAZON"},
            {"ip_prefix": "52.95.131.0/24", "region": "ap-southeast-2", "service": "ROUTE53"}
        ],
        "ipv6_prefixes": [{"ipv6_prefix": "2600:1f68:8000::/39", "region": "us-east-1", "service": "S3"}]
    }"#;

    #[test]
    fn the_longest_prefix_and_the_most_telling_name_win() {
        let ranges = ServiceRanges::parse(FILE.as_bytes()).unwrap();
        for (address, service) in [
            ("52.95.128.179", Some("S3")),
            ("52.95.130.1", Some("S3")),
            ("52.95.131.255", Some("ROUTE53")),
            ("52.94.0.1", Some("AMAZON")),
            ("52.96.0.0", None),
            ("10.0.0.1", None),
            ("2600:1f68:8001::1", Some("S3")),
            ("2600:1f68:7fff::1", None),
        ] {
            assert_eq!(ranges.service(address.parse().unwrap()), service, "{address}");
        }
    }

    #[test]
    fn invalid_files_are_rejected() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"prefixes": []}"#,
            r#"{"prefixes": [{"ip_prefix": "10.0.0.0/33", "service": "S3"}]}"#,
            r#"{"prefixes": [{"ip_prefix": "10.0.0.0/8"}]}"#,
            r#"{"prefixes": [{"ip_prefix": "10.0.0.0/8", "service": "S 3"}]}"#,
        ] {
            let error = ServiceRanges::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{text:?}: {error}");
        }
    }
}
