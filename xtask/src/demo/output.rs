//! Reads the files that the daemon wrote.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ICMP_V6: u8 = 58;
const ECHO_V6: [u8; 2] = [128, 129];

/// The fields of a JSON record that the demo shows.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Record {
    pub(super) interface_id: String,
    #[serde(rename = "ecs_service_name", default)]
    pub(super) service: String,
    pub(super) log_status: String,
    /// Fields that only flow records have.
    #[serde(flatten)]
    pub(super) flow: Option<Flow>,
    /// The line it was parsed from.
    #[serde(skip)]
    pub(super) line: String,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Flow {
    pub(super) srcaddr: IpAddr,
    pub(super) dstaddr: IpAddr,
    pub(super) srcport: u16,
    pub(super) dstport: u16,
    pub(super) protocol: u8,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) tcp_flags: u8,
    #[serde(rename = "flow_direction")]
    pub(super) direction: Direction,
    pub(super) icmp_type: Option<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Direction {
    Ingress,
    Egress,
}

impl Flow {
    /// True for traffic of IP itself: neighbour discovery, router solicitation, multicast reports.
    pub(super) fn is_housekeeping(&self) -> bool {
        let echo = self.icmp_type.is_some_and(|kind| ECHO_V6.contains(&kind));
        self.dstaddr.is_multicast() || self.protocol == ICMP_V6 && !echo
    }
}

/// All files and records that the daemon wrote.
#[derive(Debug)]
pub(super) struct Output {
    /// The files, relative to the daemon's folder.
    pub(super) files: Vec<PathBuf>,
    pub(super) records: Vec<Record>,
    /// The lines of the text files, headers included.
    pub(super) text: Vec<String>,
}

impl Output {
    pub(super) fn read(folder: &Path) -> Result<Self> {
        let mut output = Self { files: Vec::new(), records: Vec::new(), text: Vec::new() };
        let mut paths =
            files_below(folder).with_context(|| format!("looking into {}", folder.display()))?;
        paths.sort();
        for path in paths {
            output.read_file(&path).with_context(|| format!("reading {}", path.display()))?;
            output.files.push(path.strip_prefix(folder)?.to_path_buf());
        }
        Ok(output)
    }

    fn read_file(&mut self, path: &Path) -> Result<()> {
        let mut text = String::new();
        if path.extension().is_some_and(|extension| extension == "gz") {
            MultiGzDecoder::new(File::open(path)?).read_to_string(&mut text)?;
            self.text.extend(text.lines().map(str::to_owned));
        } else {
            File::open(path)?.read_to_string(&mut text)?;
            for line in text.lines() {
                self.records.push(record(line).with_context(|| line.to_owned())?);
            }
        }
        Ok(())
    }
}

/// The flow records.
pub(super) fn flows(records: &[Record]) -> impl Iterator<Item = (&Record, &Flow)> {
    records.iter().filter_map(|record| Some((record, record.flow.as_ref()?)))
}

fn record(line: &str) -> Result<Record> {
    let record: Record = serde_json::from_str(line)?;
    Ok(Record { line: line.to_owned(), ..record })
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record of the shape that the daemon writes.
    pub(in crate::demo) fn flow(service: &str, flow: &str) -> Record {
        let head = format!(
            r#""interface_id":"eni-{service}","log_status":"OK","ecs_service_name":"{service}""#
        );
        record(&format!("{{{head},{flow}}}")).unwrap()
    }

    pub(in crate::demo) const TCP_FLOW: &str = r#""srcaddr":"10.0.0.1","dstaddr":"10.0.0.2","srcport":40000,"dstport":80,"protocol":6,"packets":6,"bytes":400,"tcp_flags":3,"flow_direction":"egress""#;

    pub(in crate::demo) fn icmp_v6(to: &str, kind: u8) -> String {
        format!(
            r#""srcaddr":"fd20:1::1","dstaddr":"{to}","srcport":0,"dstport":0,"protocol":58,"packets":2,"bytes":128,"tcp_flags":0,"flow_direction":"ingress","icmp_type":{kind}"#
        )
    }

    #[test]
    fn a_record_without_a_flow_is_read_too() {
        let line = r#"{"interface_id":"eni-1","log_status":"NODATA","srcaddr":null,"dstaddr":null,"srcport":null,"dstport":null,"protocol":null,"packets":null,"bytes":null}"#;
        let record = record(line).unwrap();
        assert_eq!(record.log_status, "NODATA");
        assert!(record.flow.is_none());
        assert_eq!(record.line, line);
    }

    #[test]
    fn echo_is_traffic_and_neighbour_discovery_is_not() {
        let check = |fields: &str, expected: bool| {
            assert_eq!(flow("web", fields).flow.unwrap().is_housekeeping(), expected, "{fields}");
        };
        check(TCP_FLOW, false);
        check(&icmp_v6("fd20:1::2", 128), false);
        check(&icmp_v6("fd20:1::2", 129), false);
        check(&icmp_v6("fd20:1::2", 135), true);
        check(&icmp_v6("ff02::16", 143), true);
        check(&icmp_v6("ff02::1", 128), true);
        check(&TCP_FLOW.replace("10.0.0.2", "224.0.0.22"), true);
    }
}
