//! The final report: records, metrics and files, and a check of the announced facts.

use std::fmt::Write as _;

use anyhow::{Result, bail};

use super::{
    cast::API,
    console::say,
    output::{Direction, Flow, Output, Record, TCP, flows},
    page::Page,
    promises, rows,
    table::grouped,
    traffic,
};

/// Columns of a wrapped line.
const WIDTH: usize = 104;

#[derive(Debug)]
pub(super) struct Report<'a> {
    pub(super) output: &'a Output,
    pub(super) page: &'a Page,
    pub(super) url: &'a str,
}

impl Report<'_> {
    /// Prints the report. Returns an error if a record contradicts the announced facts.
    pub(super) fn print(&self) -> Result<()> {
        let records = &self.output.records;
        say(format_args!(
            "\nRecords of both tasks, as the daemon wrote them:\n\n{}",
            rows::table(records)
        ))?;
        say(format_args!("Totals per service, all records:\n\n{}", rows::totals(records)))?;
        say(format_args!("{}\n", traffic::NOT_RECORDED))?;
        say(self.metrics())?;
        say(self.examples())?;
        let broken = promises::broken(records);
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
            "\n  {} received {} frames from the kernel, which merges packets (GSO): on a wire they are {} packets.\n",
            API.service,
            sum("observer_interface_frames_total"),
            sum("observer_interface_packets_total"),
        );
        text
    }

    /// One record in both formats, and the list of files.
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

/// True for the record that is shown in full: a request to the service `api`.
fn is_example(record: &Record, flow: &Flow) -> bool {
    record.service == API.service
        && flow.protocol == TCP
        && flow.direction == Direction::Ingress
        && flow.dstaddr.is_ipv4()
}

/// True if a line of text in AWS's default format is this record.
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

/// A JSON object wrapped to the terminal's width, between its members.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::output::tests::{TCP_FLOW, flow};

    #[test]
    fn a_folded_object_is_the_same_object() {
        let line =
            format!(r#"{{"a":"{}","b":1,"c":"{}","d":null}}"#, "x".repeat(90), "y".repeat(80));
        let text = folded(&line);
        assert!(text.lines().count() > 1);
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, serde_json::from_str::<serde_json::Value>(&line).unwrap());
    }

    #[test]
    fn text_and_json_of_a_record_are_matched() {
        let record = flow("web", TCP_FLOW);
        let flow = record.flow.as_ref().unwrap();
        let line = "2 111122223333 eni-web 10.0.0.1 10.0.0.2 40000 80 6 6 400 1 2 ACCEPT OK";
        assert!(is_same(line, &record, flow));
        assert!(!is_same(&line.replace(" 80 ", " 81 "), &record, flow));
    }
}
