//! What is shown of the records and metrics, and whether they hold what the demo promises.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Result, bail};

use super::{
    cast::{API, TASKS},
    output::{Direction, Flow, Output, Record},
    page::Page,
    say,
    table::{
        Align::{Left, Right},
        grouped, render,
    },
    traffic,
};

/// More would not be read.
const ROWS: usize = 32;
/// Columns of a line that is folded.
const WIDTH: usize = 104;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;

#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) output: &'a Output,
    pub(super) page: &'a Page,
    pub(super) url: &'a str,
}

impl Report<'_> {
    /// Prints all of it; an error if a promise is not kept.
    pub(super) fn print(&self) -> Result<()> {
        let records = &self.output.records;
        say(format_args!("\nRecords of both tasks, as the daemon wrote them:\n\n{}", table(records)))?;
        say(format_args!("Totals per service, all records:\n\n{}", totals(records)))?;
        say(format_args!("{}\n", traffic::NOT_RECORDED))?;
        say(self.metrics())?;
        say(self.examples())?;
        let broken = broken_promises(records);
        if !broken.is_empty() {
            bail!("the records are not what they should be: {}", broken.join("; "));
        }
        Ok(())
    }

    fn metrics(&self) -> String {
        let page = self.page;
        let interface = page.interface(API.eni).unwrap_or_default();
        let mut text = format!("Some lines of {}, from while the daemon ran:\n\n", self.url);
        let service = format!("service=\"{}\"", API.service);
        let chosen: [(&str, &[&str]); 6] = [
            ("observer_interfaces", &["state=\"attached\""]),
            ("observer_windows_total", &[]),
            ("observer_bytes_total", &[&service, "ingress", "\"tcp\""]),
            ("observer_interface_frames_total", &[&interface, "ingress"]),
            ("observer_interface_packets_total", &[&interface, "ingress"]),
            ("observer_lost_packets_total", &["table_full"]),
        ];
        for (name, labels) in chosen {
            for line in page.lines(name, labels) {
                let _ = writeln!(text, "  {line}");
            }
        }
        let sum = |name: &str| grouped(page.sum(name, &[&interface, "ingress"]));
        let _ = write!(
            text,
            "\n  The kernel handed {} frames to {}, many of them merged (GSO): {} packets as on a wire.\n",
            sum("observer_interface_frames_total"),
            API.service,
            sum("observer_interface_packets_total"),
        );
        text
    }

    /// One record in both formats, and the files.
    fn examples(&self) -> String {
        let mut text = "The files, in a temporary folder that is removed now:\n\n".to_owned();
        let mut folder = None;
        for file in &self.output.files {
            if folder != file.parent() {
                folder = file.parent();
                let _ = writeln!(text, "  {}/", folder.unwrap_or(file).display());
            }
            let _ = writeln!(text, "    {}", file.file_name().unwrap_or_default().display());
        }
        let Some((record, flow)) =
            flows(&self.output.records).find(|(record, flow)| is_example(record, flow))
        else {
            return text;
        };
        let _ = write!(text, "\nOne record as JSON:\n\n{}\n", folded(&record.line));
        let text_record = self.output.text.iter().find(|line| is_same(line, record, flow));
        if let (Some(header), Some(line)) = (self.output.text.first(), text_record) {
            let _ = write!(
                text,
                "The same record as text, under the header of its file:\n\n  {header}\n  {line}\n"
            );
        }
        text
    }
}

/// Records of flows.
fn flows(records: &[Record]) -> impl Iterator<Item = (&Record, &Flow)> {
    records.iter().filter_map(|record| Some((record, record.flow.as_ref()?)))
}

fn table(records: &[Record]) -> String {
    let (housekeeping, mut shown): (Vec<_>, Vec<_>) =
        flows(records).partition(|(_, flow)| flow.is_housekeeping());
    shown.sort_by_cached_key(|(record, flow)| {
        // Both directions of a conversation next to each other, the server's end first.
        let mut ends = [(flow.srcport, flow.srcaddr), (flow.dstport, flow.dstaddr)];
        ends.sort_unstable();
        let task = TASKS.iter().position(|task| task.service == record.service);
        (task, flow.srcaddr.is_ipv6(), rank(flow.protocol), ends, flow.direction)
    });
    let rows: Vec<_> = shown.iter().take(ROWS).map(|(record, flow)| row(record, flow)).collect();
    let header = [
        ("SERVICE", Left),
        ("ENI", Left),
        ("DIR", Left),
        ("SOURCE", Right),
        ("", Left),
        ("DESTINATION", Left),
        ("PROTO", Left),
        ("PACKETS", Right),
        ("BYTES", Right),
        ("FLAGS", Left),
    ];
    let mut text = render(header, &rows);
    if shown.len() > ROWS {
        let _ = writeln!(text, "  … and {} more of this kind", shown.len() - ROWS);
    }
    let _ = writeln!(text);
    if !housekeeping.is_empty() {
        let _ = writeln!(
            text,
            "  + {} of IP looking after itself (neighbour discovery, multicast reports): {} packets",
            counted(housekeeping.len(), "record"),
            housekeeping.iter().map(|(_, flow)| flow.packets).sum::<u64>(),
        );
    }
    for (status, meaning) in
        [("NODATA", "a window in which a task was silent"), ("SKIPDATA", "packets that are in no record")]
    {
        let count = records.iter().filter(|record| record.log_status == status).count();
        if count > 0 {
            let _ = writeln!(text, "  + {} of {meaning} ({status})", counted(count, "record"));
        }
    }
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// As they are usually named first.
fn rank(protocol: u8) -> u8 {
    [TCP, UDP, ICMP, ICMP_V6].iter().position(|it| *it == protocol).map_or(u8::MAX, |rank| rank as u8)
}

fn row(record: &Record, flow: &Flow) -> [String; 10] {
    [
        record.service.clone(),
        record.interface_id.clone(),
        match flow.direction {
            Direction::Ingress => "in".into(),
            Direction::Egress => "out".into(),
        },
        end(flow.srcaddr, flow.srcport, flow),
        "→".into(),
        end(flow.dstaddr, flow.dstport, flow),
        match flow.protocol {
            TCP => "TCP".into(),
            UDP => "UDP".into(),
            ICMP => "ICMP".into(),
            ICMP_V6 => "ICMPv6".into(),
            other => other.to_string(),
        },
        grouped(flow.packets),
        grouped(flow.bytes),
        flags(flow),
    ]
}

fn end(address: IpAddr, port: u16, flow: &Flow) -> String {
    if [ICMP, ICMP_V6].contains(&flow.protocol) {
        address.to_string()
    } else {
        SocketAddr::new(address, port).to_string()
    }
}

/// The flags of TCP, in the order in which a connection shows them; of ICMP the type.
fn flags(flow: &Flow) -> String {
    const FLAGS: [(u8, &str); 4] = [(2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST")];
    match (flow.protocol, flow.icmp_type) {
        (ICMP, Some(8)) | (ICMP_V6, Some(128)) => "echo request".into(),
        (ICMP, Some(0)) | (ICMP_V6, Some(129)) => "echo reply".into(),
        _ => {
            let set = FLAGS.iter().filter(|(bit, _)| flow.tcp_flags & bit != 0).map(|(_, name)| *name);
            set.collect::<Vec<_>>().join(" ")
        }
    }
}

fn totals(records: &[Record]) -> String {
    let rows = TASKS.map(|task| {
        let of_task = || flows(records).filter(|(record, _)| record.service == task.service);
        let sum = |direction: Direction, value: fn(&Flow) -> u64| {
            let flows = of_task().filter(|(_, flow)| flow.direction == direction);
            grouped(flows.map(|(_, flow)| value(flow)).sum())
        };
        [
            task.service.to_owned(),
            task.eni.to_owned(),
            of_task().count().to_string(),
            sum(Direction::Ingress, |flow| flow.packets),
            sum(Direction::Ingress, |flow| flow.bytes),
            sum(Direction::Egress, |flow| flow.packets),
            sum(Direction::Egress, |flow| flow.bytes),
        ]
    });
    let header = [
        ("SERVICE", Left),
        ("ENI", Left),
        ("RECORDS", Right),
        ("PACKETS IN", Right),
        ("BYTES IN", Right),
        ("PACKETS OUT", Right),
        ("BYTES OUT", Right),
    ];
    render(header, &rows)
}

/// The one that is shown in full: somebody asks the service `api` for something.
fn is_example(record: &Record, flow: &Flow) -> bool {
    record.service == API.service
        && flow.protocol == TCP
        && flow.direction == Direction::Ingress
        && flow.dstaddr.is_ipv4()
}

/// Whether a line of text in AWS's default format is this record.
fn is_same(line: &str, record: &Record, flow: &Flow) -> bool {
    let key = [
        record.interface_id.clone(),
        flow.srcaddr.to_string(),
        flow.dstaddr.to_string(),
        flow.srcport.to_string(),
        flow.dstport.to_string(),
        flow.protocol.to_string(),
        flow.packets.to_string(),
    ];
    line.split(' ').skip(2).take(key.len()).eq(key.iter())
}

/// A JSON object in lines that fit a terminal, broken between its members.
fn folded(line: &str) -> String {
    let mut text = String::new();
    let mut column = WIDTH;
    for (number, member) in line.split(",\"").enumerate() {
        let member = if number == 0 { member.to_owned() } else { format!(",\"{member}") };
        let length = member.chars().count();
        if column + length > WIDTH {
            let member = member.strip_prefix(',').unwrap_or(&member);
            let separator = if number == 0 { "  " } else { ",\n   " };
            text += separator;
            text += member;
            column = separator.len() + member.len();
        } else {
            text += &member;
            column += length;
        }
    }
    text.push('\n');
    text
}

/// What the demo says it shows and the records do not hold.
fn broken_promises(records: &[Record]) -> Vec<String> {
    let mut broken = Vec::new();
    let traffic = || flows(records).filter(|(_, flow)| !flow.is_housekeeping());
    for task in TASKS {
        for (family, is_v6) in [("IPv4", false), ("IPv6", true)] {
            let found = traffic().any(|(record, flow)| {
                record.service == task.service
                    && record.interface_id == task.eni
                    && flow.srcaddr.is_ipv6() == is_v6
            });
            if !found {
                broken.push(format!("no {family} record of service {} with {}", task.service, task.eni));
            }
        }
    }
    let kinds = [
        ("TCP over IPv4", TCP, false),
        ("TCP over IPv6", TCP, true),
        ("UDP over IPv4", UDP, false),
        ("UDP over IPv6", UDP, true),
        ("ICMP", ICMP, false),
        ("ICMPv6 echo", ICMP_V6, true),
    ];
    for (name, protocol, is_v6) in kinds {
        if !traffic().any(|(_, flow)| flow.protocol == protocol && flow.srcaddr.is_ipv6() == is_v6) {
            broken.push(format!("no record of {name}"));
        }
    }
    let of_agent = flows(records)
        .filter(|(_, flow)| [flow.srcaddr, flow.dstaddr].into_iter().any(is_link_local_v4))
        .count();
    if of_agent > 0 {
        broken.push(format!("{} of ecs-eth0", counted(of_agent, "record")));
    }
    broken
}

/// Addresses of this kind are on `ecs-eth0` only.
fn is_link_local_v4(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_link_local())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::output::tests::{TCP, flow, icmp_v6};

    #[test]
    fn housekeeping_is_summed_up_and_not_shown_in_rows() {
        let text = table(&[
            flow("web", TCP),
            flow("web", &icmp_v6("ff02::16", 143)),
            flow("web", &icmp_v6("fd20:1::2", 128)),
        ]);
        assert!(text.contains("10.0.0.1:40000  →  10.0.0.2:80"), "{text}");
        assert!(text.contains("SYN FIN"), "{text}");
        assert!(text.contains("echo request"), "{text}");
        assert!(!text.contains("ff02::16"), "{text}");
        assert!(text.contains("+ 1 record of IP looking after itself"), "{text}");
        assert!(!text.contains("NODATA"), "{text}");
    }

    #[test]
    fn rows_that_are_too_many_are_counted() {
        let text = table(&vec![flow("web", TCP); ROWS + 2]);
        assert!(text.contains("… and 2 more"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let broken = broken_promises(&[]);
        assert_eq!(broken.len(), 4 + 6);
        assert_eq!(broken[0], "no IPv4 record of service web with eni-0a6c55131166f85c8");
        let agent = TCP.replace("10.0.0.2", "169.254.170.2");
        assert!(broken_promises(&[flow("web", &agent)]).contains(&"1 record of ecs-eth0".into()));
    }

    #[test]
    fn a_folded_object_is_the_same_object() {
        let line = format!(r#"{{"a":"{}","b":1,"c":"{}","d":null}}"#, "x".repeat(90), "y".repeat(80));
        let text = folded(&line);
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, serde_json::from_str::<serde_json::Value>(&line).unwrap());
    }

    #[test]
    fn text_and_json_of_a_record_are_matched() {
        let record = flow("web", TCP);
        let flow = record.flow.as_ref().unwrap();
        let line = "2 111122223333 eni-web 10.0.0.1 10.0.0.2 40000 80 6 6 400 1 2 ACCEPT OK";
        assert!(is_same(line, &record, flow));
        assert!(!is_same(&line.replace(" 80 ", " 81 "), &record, flow));
    }
}
