//! JSON record files, read strictly: every finished file below the output directory.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

pub use crate::record_files::{FileName, finished, unfinished};
use crate::{
    tally::{Crossed, Direction, Tally},
    veth::Mac,
};

/// The fields of AWS's default format in order, by their JSON names.
pub const DEFAULT_FIELDS: [&str; 14] = [
    "version",
    "account_id",
    "interface_id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log_status",
];

/// Fields that only flow records have.
const OF_FLOWS: [&str; 8] =
    ["srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "action"];

/// The `log_status` of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// A flow record.
    Ok,
    /// An interface without traffic.
    NoData,
    /// An interface with packets that are in no record.
    SkipData,
}

impl Status {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        Ok(match text {
            "OK" => Self::Ok,
            "NODATA" => Self::NoData,
            "SKIPDATA" => Self::SkipData,
            _ => bail!("{text:?} is no log-status"),
        })
    }
}

/// A 5-tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Protocol number.
    pub protocol: u8,
}

/// A record.
#[derive(Clone, Debug)]
pub struct Record {
    /// All its fields.
    pub fields: Map<String, Value>,
    /// Its log status.
    pub status: Status,
    /// The 5-tuple and direction of a flow record.
    pub flow: Option<(Direction, Flow)>,
    /// Packets and bytes: counted for a flow, lost for SKIPDATA.
    pub tally: Tally,
    /// UNIX seconds.
    pub start: i64,
    /// UNIX seconds.
    pub end: i64,
}

impl Record {
    /// A string field; empty if it is missing.
    pub fn text(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// A numeric field.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key).and_then(Value::as_u64)
    }

    /// Parses a line and checks it against the record contract.
    fn parse(line: &str) -> Result<Self> {
        let Value::Object(fields) = serde_json::from_str(line)? else { bail!("not a JSON object") };
        for (key, value) in &fields {
            ensure!(!value.is_array() && !value.is_object(), "{key} is not flat");
            ensure!(!value.is_null() || DEFAULT_FIELDS.contains(&key.as_str()), "{key} is null");
        }
        for key in DEFAULT_FIELDS {
            ensure!(fields.contains_key(key), "{key} is missing");
        }
        let status =
            Status::parse(fields["log_status"].as_str().context("log_status is no text")?)?;
        let number =
            |key: &str| fields[key].as_u64().with_context(|| format!("{key} is no number"));
        for key in OF_FLOWS {
            ensure!(
                fields[key].is_null() != (status == Status::Ok),
                "{key} of {status:?}: {}",
                fields[key]
            );
        }
        let mut record = Self {
            status,
            flow: None,
            tally: Tally::default(),
            start: number("start")? as i64,
            end: number("end")? as i64,
            fields: Map::new(),
        };
        ensure!(record.start <= record.end, "it ends before it starts");
        match status {
            Status::Ok => {
                record.tally = Tally::new(number("packets")?, number("bytes")?);
                ensure!(record.tally.packets > 0, "a flow without packets");
                ensure!(
                    fields["action"] == "ACCEPT" || fields["action"] == "REJECT",
                    "{}",
                    fields["action"]
                );
                let reason = fields.get("drop_reason");
                ensure!(
                    reason.is_some() == (fields["action"] == "REJECT"),
                    "drop_reason is {reason:?}"
                );
                record.flow = Some(flow_of(&fields)?);
            }
            Status::NoData => {}
            Status::SkipData => {
                record.tally = Tally::new(
                    number_of(&fields, "lost_packets")?,
                    number_of(&fields, "lost_bytes")?,
                );
            }
        }
        if let (Some(first), Some(last)) = (
            fields.get("start_ms").and_then(Value::as_i64),
            fields.get("end_ms").and_then(Value::as_i64),
        ) {
            ensure!(first <= last, "its last packet came before its first");
            let seconds = (first.div_euclid(1000), last.div_euclid(1000));
            ensure!(
                seconds == (record.start, record.end),
                "milliseconds {first} to {last} are not its seconds"
            );
        }
        record.fields = fields;
        Ok(record)
    }

    /// The fields of a text record except the version, formatted as text.
    pub fn facts(&self) -> Vec<String> {
        let facts = DEFAULT_FIELDS.iter().skip(1).map(|key| match &self.fields[*key] {
            Value::Null => "-".into(),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        });
        facts.collect()
    }
}

fn number_of(fields: &Map<String, Value>, key: &str) -> Result<u64> {
    fields.get(key).and_then(Value::as_u64).with_context(|| format!("{key} is missing"))
}

fn flow_of(fields: &Map<String, Value>) -> Result<(Direction, Flow)> {
    let text = |key: &str| {
        fields
            .get(key)
            .and_then(Value::as_str)
            .with_context(|| format!("{key} is missing or no text"))
    };
    let direction = match text("flow_direction")? {
        "ingress" => Direction::Ingress,
        "egress" => Direction::Egress,
        other => bail!("{other:?} is no direction"),
    };
    let flow = Flow {
        source: text("srcaddr")?.parse()?,
        destination: text("dstaddr")?.parse()?,
        source_port: number_of(fields, "srcport")?.try_into()?,
        destination_port: number_of(fields, "dstport")?.try_into()?,
        protocol: number_of(fields, "protocol")?.try_into()?,
    };
    // RFC 5952 defines one text for each address, which the standard library prints.
    ensure!(
        text("srcaddr")? == flow.source.to_string(),
        "srcaddr {} is not canonical",
        text("srcaddr")?
    );
    ensure!(
        text("dstaddr")? == flow.destination.to_string(),
        "dstaddr {} is not canonical",
        text("dstaddr")?
    );
    let family = if flow.source.is_ipv4() { "IPv4" } else { "IPv6" };
    ensure!(text("type")? == family, "type is {}", text("type")?);
    Ok((direction, flow))
}

/// The sums of all records of one flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSum {
    /// Packets and bytes.
    pub tally: Tally,
    /// Number of records.
    pub records: u64,
    /// Union of `tcp_flags`.
    pub tcp_flags: u64,
    /// Union of `tcp_flags_all`.
    pub tcp_flags_all: u64,
}

/// All records of a daemon.
#[derive(Debug, Default)]
pub struct Records {
    /// In the order of file names and lines.
    pub all: Vec<Record>,
    /// The files.
    pub files: Vec<PathBuf>,
}

impl Records {
    /// Reads the JSON lines below `directory`.
    pub fn read(directory: &Path) -> Result<Self> {
        let files = finished(directory, "jsonl")?;
        let mut all = Vec::new();
        for file in &files {
            let name =
                FileName::parse(directory, file).with_context(|| format!("{}", file.display()))?;
            let text = fs::read_to_string(file)?;
            ensure!(
                text.is_empty() || text.ends_with('\n'),
                "{} ends inside a line",
                file.display()
            );
            for (number, line) in text.lines().enumerate() {
                let place = || format!("{}, line {}: {line}", file.display(), number + 1);
                let record = Record::parse(line).with_context(place)?;
                name.check(record.end).with_context(place)?;
                let account = record.text("account_id");
                ensure!(
                    account.is_empty() || account == name.account,
                    "{}: another account",
                    place()
                );
                all.push(record);
            }
        }
        Ok(Self { all, files })
    }

    /// Records of the interface with this MAC address.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = &Record> {
        let mac = mac.to_string();
        self.all.iter().filter(move |record| record.text("mac") == mac)
    }

    /// Records of an interface with this status.
    pub fn with_status(&self, mac: Mac, status: Status) -> Vec<&Record> {
        self.of(mac).filter(|record| record.status == status).collect()
    }

    /// Totals of the flow records of an interface, per direction.
    pub fn recorded(&self, mac: Mac) -> Crossed {
        Crossed::of(|direction| {
            let flows =
                self.of(mac).filter(|record| record.flow.is_some_and(|(it, _)| it == direction));
            flows.map(|record| record.tally).sum()
        })
    }

    /// Totals of the SKIPDATA records of an interface, both directions together.
    pub fn lost(&self, mac: Mac) -> Tally {
        self.with_status(mac, Status::SkipData).iter().map(|record| record.tally).sum()
    }

    /// Flows of an interface, each summed over all its records.
    pub fn flows(&self, mac: Mac) -> BTreeMap<(Direction, Flow), FlowSum> {
        self.flows_by(mac, |_| Some(())).into_iter().map(|((flow, ()), sum)| (flow, sum)).collect()
    }

    /// Rejected flows, with their reasons.
    pub fn rejected(&self, mac: Mac) -> BTreeMap<((Direction, Flow), String), FlowSum> {
        self.flows_by(mac, |record| {
            (record.text("action") == "REJECT").then(|| record.text("drop_reason").to_owned())
        })
    }

    /// Accepted flows.
    pub fn accepted(&self, mac: Mac) -> BTreeMap<(Direction, Flow), FlowSum> {
        let flows = self.flows_by(mac, |record| (record.text("action") == "ACCEPT").then_some(()));
        flows.into_iter().map(|((flow, ()), sum)| (flow, sum)).collect()
    }

    fn flows_by<K: Ord>(
        &self,
        mac: Mac,
        key: impl Fn(&Record) -> Option<K>,
    ) -> BTreeMap<((Direction, Flow), K), FlowSum> {
        let mut flows = BTreeMap::<_, FlowSum>::new();
        for record in self.of(mac) {
            let (Some(flow), Some(key)) = (record.flow, key(record)) else { continue };
            let sum = flows.entry((flow, key)).or_default();
            sum.tally += record.tally;
            sum.records += 1;
            sum.tcp_flags |= record.number("tcp_flags").unwrap_or(0);
            sum.tcp_flags_all |= record.number("tcp_flags_all").unwrap_or(0);
        }
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODATA: &str = r#"{"version":2,"account_id":null,"interface_id":"eth0@x","srcaddr":null,"dstaddr":null,
        "srcport":null,"dstport":null,"protocol":null,"packets":null,"bytes":null,"start":1,"end":2,"action":null,
        "log_status":"NODATA"}"#;

    #[test]
    fn a_record_has_the_fourteen_keys_and_nulls_only_there() {
        Record::parse(NODATA).unwrap();
        for (part, instead) in [
            (r#""start":1"#, r#""start":3"#),
            (r#""action":null,"#, ""),
            (r#""action":null"#, r#""action":"ACCEPT""#),
            (r#""end":2"#, r#""end":2,"vpc_id":null"#),
            (r#""end":2"#, r#""end":"2""#),
            ("NODATA", "SKIPDATA"),
            ("NODATA", "OK"),
            ("NODATA", "NO"),
        ] {
            Record::parse(&NODATA.replace(part, instead)).unwrap_err();
        }
    }
}
