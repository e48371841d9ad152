//! Records without names and metadata: a million of them take as much memory as ten thousand
//! complete ones.

use std::{fs, net::IpAddr, path::Path};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use crate::{
    records::{Flow, Status, finished},
    sums::Sums,
    tally::{Crossed, Direction, Tally},
    veth::Mac,
};

/// The fields of a record that sums need.
#[derive(Clone, Copy, Debug)]
pub struct Brief {
    /// MAC address of its interface.
    pub mac: Mac,
    /// Its status.
    pub status: Status,
    /// The 5-tuple and direction of a flow record.
    pub flow: Option<(Direction, Flow)>,
    /// Packets and bytes: counted for a flow, lost for SKIPDATA.
    pub tally: Tally,
    /// Number of its packets that were not delivered.
    pub undelivered: u64,
    /// True if its action is REJECT.
    pub is_rejected: bool,
    /// UNIX seconds.
    pub start: i64,
    /// UNIX seconds.
    pub end: i64,
}

/// The JSON keys that are parsed.
#[derive(Deserialize)]
struct Line<'a> {
    mac: &'a str,
    log_status: &'a str,
    flow_direction: Option<&'a str>,
    srcaddr: Option<IpAddr>,
    dstaddr: Option<IpAddr>,
    srcport: Option<u16>,
    dstport: Option<u16>,
    protocol: Option<u8>,
    packets: Option<u64>,
    bytes: Option<u64>,
    undelivered_packets: Option<u64>,
    action: Option<&'a str>,
    lost_packets: Option<u64>,
    lost_bytes: Option<u64>,
    start: i64,
    end: i64,
}

impl Brief {
    fn parse(line: &str) -> Result<Self> {
        let line: Line<'_> = serde_json::from_str(line)?;
        let status = Status::parse(line.log_status)?;
        let (flow, packets, bytes) = match status {
            Status::Ok => (line.flow(), line.packets, line.bytes),
            Status::NoData => (None, Some(0), Some(0)),
            Status::SkipData => (None, line.lost_packets, line.lost_bytes),
        };
        ensure!(flow.is_some() == (status == Status::Ok), "a flow without its 5-tuple");
        ensure!(status != Status::Ok || packets > Some(0), "a flow without packets");
        ensure!(line.start <= line.end, "it ends before it starts");
        let tally = Tally::new(packets.context("packets")?, bytes.context("bytes")?);
        Ok(Self {
            mac: line.mac.parse()?,
            status,
            flow,
            tally,
            undelivered: line.undelivered_packets.unwrap_or(0),
            is_rejected: line.action == Some("REJECT"),
            start: line.start,
            end: line.end,
        })
    }
}

impl Line<'_> {
    fn flow(&self) -> Option<(Direction, Flow)> {
        let direction =
            Direction::ALL.into_iter().find(|it| Some(it.as_str()) == self.flow_direction)?;
        let flow = Flow {
            source: self.srcaddr?,
            destination: self.dstaddr?,
            source_port: self.srcport?,
            destination_port: self.dstport?,
            protocol: self.protocol?,
        };
        Some((direction, flow))
    }
}

/// All records of a daemon, in brief form.
#[derive(Debug, Default)]
pub struct Briefs(Vec<Brief>);

impl Briefs {
    /// Records of the interface with this MAC address.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = &Brief> {
        self.0.iter().filter(move |record| record.mac == mac)
    }

    /// Flow records of the interface with this MAC address.
    pub fn flows(&self, mac: Mac) -> impl Iterator<Item = ((Direction, Flow), &Brief)> {
        self.of(mac).filter_map(|record| Some((record.flow?, record)))
    }
}

impl Sums for Briefs {
    fn read(directory: &Path) -> Result<Self> {
        let mut all = Vec::new();
        for file in finished(directory, "jsonl")? {
            let text = fs::read_to_string(&file)?;
            for (number, line) in text.lines().enumerate() {
                let place = || format!("{}, line {}: {line}", file.display(), number + 1);
                all.push(Brief::parse(line).with_context(place)?);
            }
        }
        Ok(Self(all))
    }

    fn recorded(&self, mac: Mac) -> Crossed {
        self.flows(mac).fold(Crossed::default(), |sum, ((direction, _), record)| match direction {
            Direction::Ingress => sum + Crossed::ingress(record.tally),
            Direction::Egress => sum + Crossed::egress(record.tally),
        })
    }

    fn lost(&self, mac: Mac) -> Tally {
        self.of(mac)
            .filter(|record| record.status == Status::SkipData)
            .map(|record| record.tally)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: &str = r#"{"version":7,"srcaddr":"10.0.0.1","dstaddr":"10.0.0.2","srcport":1,"dstport":2,"protocol":17,
        "packets":3,"bytes":120,"start":5,"end":6,"log_status":"OK","flow_direction":"egress","mac":"06:39:00:00:00:0a"}"#;

    #[test]
    fn a_flow_is_read_in_brief() {
        let brief = Brief::parse(FLOW).unwrap();
        let (direction, flow) = brief.flow.unwrap();
        assert_eq!((direction, flow.source_port, flow.protocol), (Direction::Egress, 1, 17));
        assert_eq!((brief.tally, brief.start, brief.end), (Tally::new(3, 120), 5, 6));
        assert_eq!(brief.mac, Mac([6, 0x39, 0, 0, 0, 10]));
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for (part, instead) in [
            (r#""packets":3"#, r#""packets":0"#),
            (r#""packets":3"#, r#""packets":null"#),
            (r#""flow_direction":"egress","#, ""),
            ("OK", "SKIPDATA"),
            ("OK", "NO"),
            (r#""end":6"#, r#""end":4"#),
            ("00:0a", "0a"),
        ] {
            Brief::parse(&FLOW.replace(part, instead)).unwrap_err();
        }
    }
}
