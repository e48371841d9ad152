//! The record files, read as their readers would: every finished one below the output directory.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

use crate::{
    tally::{Crossed, Direction, Tally},
    veth::Mac,
};

/// The fields of AWS's default format, in its order, as JSON has them.
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

/// Those that only a flow has.
const OF_FLOWS: [&str; 8] =
    ["srcaddr", "dstaddr", "srcport", "dstport", "protocol", "packets", "bytes", "action"];

/// A record's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// A flow.
    Ok,
    /// A silent interface.
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

/// One line.
#[derive(Clone, Debug)]
pub struct Record {
    /// All that it says.
    pub fields: Map<String, Value>,
    /// Its kind.
    pub status: Status,
    /// For a flow, which.
    pub flow: Option<(Direction, Flow)>,
    /// Of a flow its counts, of SKIPDATA what is lost.
    pub tally: Tally,
    /// UNIX seconds.
    pub start: i64,
    /// UNIX seconds.
    pub end: i64,
}

impl Record {
    /// A text; empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        self.fields.get(key).and_then(Value::as_str).unwrap_or("")
    }

    /// A number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key).and_then(Value::as_u64)
    }

    /// Reads a line and checks that it is what the contract says.
    fn parse(line: &str) -> Result<Self> {
        let Value::Object(fields) = serde_json::from_str(line)? else { bail!("not a JSON object") };
        for (key, value) in &fields {
            ensure!(!value.is_array() && !value.is_object(), "{key} is not flat");
            ensure!(!value.is_null() || DEFAULT_FIELDS.contains(&key.as_str()), "{key} is null");
        }
        for key in DEFAULT_FIELDS {
            ensure!(fields.contains_key(key), "{key} is missing");
        }
        let status = Status::parse(fields["log_status"].as_str().context("log_status is no text")?)?;
        let number = |key: &str| fields[key].as_u64().with_context(|| format!("{key} is no number"));
        for key in OF_FLOWS {
            ensure!(fields[key].is_null() != (status == Status::Ok), "{key} of {status:?}: {}", fields[key]);
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
                ensure!(fields["action"] == "ACCEPT" || fields["action"] == "REJECT", "{}", fields["action"]);
                let reason = fields.get("drop_reason");
                ensure!(reason.is_some() == (fields["action"] == "REJECT"), "drop_reason is {reason:?}");
                record.flow = Some(flow_of(&fields)?);
            }
            Status::NoData => {}
            Status::SkipData => {
                record.tally =
                    Tally::new(number_of(&fields, "lost_packets")?, number_of(&fields, "lost_bytes")?);
            }
        }
        if let (Some(first), Some(last)) =
            (fields.get("start_ms").and_then(Value::as_i64), fields.get("end_ms").and_then(Value::as_i64))
        {
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

    /// The facts that a text record has too, but for the version, as text has them.
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
        fields.get(key).and_then(Value::as_str).with_context(|| format!("{key} is missing or no text"))
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
    // RFC 5952 has one text for each address, and it is the standard library's.
    ensure!(text("srcaddr")? == flow.source.to_string(), "srcaddr {} is not canonical", text("srcaddr")?);
    ensure!(
        text("dstaddr")? == flow.destination.to_string(),
        "dstaddr {} is not canonical",
        text("dstaddr")?
    );
    let family = if flow.source.is_ipv4() { "IPv4" } else { "IPv6" };
    ensure!(text("type")? == family, "type is {}", text("type")?);
    Ok((direction, flow))
}

/// What all records of one flow say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSum {
    /// Their sum.
    pub tally: Tally,
    /// How many records.
    pub records: u64,
    /// `tcp_flags`, or-ed.
    pub tcp_flags: u64,
    /// `tcp_flags_all`, or-ed.
    pub tcp_flags_all: u64,
}

/// All records of a daemon.
#[derive(Debug, Default)]
pub struct Records {
    /// In the order of the files' names and their lines.
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
            let name = FileName::parse(directory, file).with_context(|| format!("{}", file.display()))?;
            let text = fs::read_to_string(file)?;
            ensure!(text.is_empty() || text.ends_with('\n'), "{} ends inside a line", file.display());
            for (number, line) in text.lines().enumerate() {
                let place = || format!("{}, line {}: {line}", file.display(), number + 1);
                let record = Record::parse(line).with_context(place)?;
                name.check(record.end).with_context(place)?;
                let account = record.text("account_id");
                ensure!(account.is_empty() || account == name.account, "{}: another account", place());
                all.push(record);
            }
        }
        Ok(Self { all, files })
    }

    /// Those of the interface with this link address.
    pub fn of(&self, mac: Mac) -> impl Iterator<Item = &Record> {
        let mac = mac.to_string();
        self.all.iter().filter(move |record| record.text("mac") == mac)
    }

    /// Those of one kind.
    pub fn with_status(&self, mac: Mac, status: Status) -> Vec<&Record> {
        self.of(mac).filter(|record| record.status == status).collect()
    }

    /// What the flows of an interface sum up to.
    pub fn recorded(&self, mac: Mac) -> Crossed {
        Crossed::of(|direction| {
            let flows = self.of(mac).filter(|record| record.flow.is_some_and(|(it, _)| it == direction));
            flows.map(|record| record.tally).sum()
        })
    }

    /// What the SKIPDATA of an interface sums up to, both ways together.
    pub fn lost(&self, mac: Mac) -> Tally {
        self.with_status(mac, Status::SkipData).iter().map(|record| record.tally).sum()
    }

    /// The flows of an interface, each over all its records.
    pub fn flows(&self, mac: Mac) -> BTreeMap<(Direction, Flow), FlowSum> {
        self.flows_by(mac, |_| Some(())).into_iter().map(|((flow, ()), sum)| (flow, sum)).collect()
    }

    /// Those that were rejected, with the reason of each.
    pub fn rejected(&self, mac: Mac) -> BTreeMap<((Direction, Flow), String), FlowSum> {
        self.flows_by(mac, |record| {
            (record.text("action") == "REJECT").then(|| record.text("drop_reason").to_owned())
        })
    }

    /// Those that were accepted.
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

/// The finished files with this ending, sorted; those that are being written begin with a dot.
pub fn finished(directory: &Path, ending: &str) -> Result<Vec<PathBuf>> {
    let files = all_files(directory)?;
    let finished = files.into_iter().filter(|file| {
        let name = name_of(file);
        !name.starts_with('.') && name.strip_suffix(ending).is_some_and(|rest| rest.ends_with('.'))
    });
    Ok(finished.collect())
}

/// The files that are not finished.
pub fn unfinished(directory: &Path) -> Result<Vec<PathBuf>> {
    let files = all_files(directory)?;
    Ok(files.into_iter().filter(|file| name_of(file).starts_with('.')).collect())
}

fn name_of(file: &Path) -> &str {
    file.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

fn all_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_path_buf()];
    while let Some(folder) = folders.pop() {
        if !folder.exists() {
            continue;
        }
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}

/// What a file's place and name say (AWS, "Flow log files").
#[derive(Debug)]
pub struct FileName {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// UNIX seconds: the file holds records that end in the five minutes from here.
    pub time: i64,
}

impl FileName {
    /// Reads `AWSLogs/<account>/vpcflowlogs/<region>/<Y>/<M>/<D>/<account>_vpcflowlogs_<region>_<id>_<time>_<hash>`.
    pub fn parse(base: &Path, file: &Path) -> Result<Self> {
        let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let path = file.strip_prefix(base)?.to_str().context("a name in UTF-8")?;
        let parts: Vec<&str> = path.split('/').collect();
        let ["AWSLogs", account, "vpcflowlogs", region, year, month, day, name] = parts[..] else {
            bail!("{path} has other folders than AWS's");
        };
        ensure!(
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit()),
            "account {account}"
        );
        let region_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        ensure!(!region.is_empty() && region.bytes().all(region_byte), "region {region}");
        let (stem, _) = name.split_once('.').context("an ending")?;
        let parts: Vec<&str> = stem.split('_').collect();
        let [name_account, "vpcflowlogs", name_region, id, time, hash] = parts[..] else {
            bail!("{name} has other parts than AWS's");
        };
        ensure!((name_account, name_region) == (account, region), "{name} lies in the wrong folder");
        let id = id.strip_prefix("fl-").context("a flow log id")?;
        ensure!((8..=17).contains(&id.len()) && hex(id), "flow log id fl-{id}");
        ensure!(hash.len() == 8 && hex(hash), "hash {hash}");
        let moment = DateTime::strptime("%Y%m%dT%H%MZ", time).with_context(|| format!("time {time}"))?;
        ensure!(moment.strftime("%Y/%m/%d").to_string() == format!("{year}/{month}/{day}"), "{path}");
        ensure!(moment.minute() % 5 == 0, "{time} is not at five minutes");
        let time = moment.to_zoned(TimeZone::UTC)?.timestamp().as_second();
        Ok(Self { account: account.to_owned(), region: region.to_owned(), time })
    }

    /// Whether a record that ends then belongs into the file.
    pub fn check(&self, end: i64) -> Result<()> {
        ensure!((self.time..self.time + 300).contains(&end), "{end} is outside of the file's five minutes");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDER: &str = "/x/AWSLogs/123456789012/vpcflowlogs/us-east-1/2026/06/10";

    fn name(name: &str) -> Result<FileName> {
        FileName::parse(Path::new("/x"), &Path::new(FOLDER).join(name))
    }

    #[test]
    fn file_names_are_those_of_aws() {
        let good = "123456789012_vpcflowlogs_us-east-1_fl-1234abcd_20260610T1620Z_fe123456.log.gz";
        let file = name(good).unwrap();
        assert_eq!(file.time, 1_781_108_400);
        file.check(file.time + 299).unwrap();
        file.check(file.time + 300).unwrap_err();
        for (part, instead) in [
            ("123456789012", "12345678901"),
            ("us-east-1", "eu-west-1"),
            ("fl-1234abcd", "fl-12"),
            ("T1620Z", "T1621Z"),
            ("20260610", "20260611"),
            ("fe123456", "fe12345"),
            ("fe123456", "FE123456"),
            ("vpcflowlogs", "vpcflowlog"),
        ] {
            name(&good.replace(part, instead)).unwrap_err();
        }
    }

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
