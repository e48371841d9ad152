//! The daemon's HTTP pages, and the part of the Prometheus text format that the demo reads.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result};

/// Status and body of a page.
pub(super) fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // An HTTP/1.0 response ends with the connection and has no chunks.
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("an HTTP status")?;
    Ok((status, body.to_owned()))
}

/// A metrics page.
#[derive(Debug)]
pub(super) struct Page {
    text: String,
}

impl Page {
    pub(super) fn new(text: String) -> Self {
        Self { text }
    }

    /// Number of observed interfaces.
    pub(super) fn attached(&self) -> u64 {
        self.sum("observer_interfaces", &["state=\"attached\""])
    }

    /// Number of closed windows.
    pub(super) fn windows(&self) -> u64 {
        self.sum("observer_windows_total", &[])
    }

    /// Number of written flow records.
    pub(super) fn records(&self) -> u64 {
        self.sum("observer_records_total", &["log_status=\"OK\""])
    }

    /// The lines of a series with these labels.
    pub(super) fn lines(&self, name: &str, labels: &[&str]) -> impl Iterator<Item = &str> {
        self.text.lines().filter(move |line| {
            let rest = line.strip_prefix(name).unwrap_or("");
            rest.starts_with(['{', ' ']) && labels.iter().all(|label| rest.contains(label))
        })
    }

    /// The sum of the integer values of these lines.
    pub(super) fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let values = self
            .lines(name, labels)
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        values.sum()
    }

    /// The interface label of an ENI's series.
    pub(super) fn interface(&self, eni: &str) -> Option<String> {
        let id = format!("interface_id=\"{eni}\"");
        let line = self.lines("observer_interface_info", &[&id]).next()?;
        let (_, rest) = line.split_once("interface=\"")?;
        Some(format!("interface=\"{}\"", rest.split('"').next()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE observer_interfaces gauge
observer_interfaces{state=\"attached\"} 2
observer_interfaces{state=\"failed\"} 1
observer_interfaces_more{state=\"attached\"} 7
observer_windows_total 3
observer_interface_info{cluster_arn=\"\",interface=\"a1\",interface_id=\"eni-1\"} 1
";

    #[test]
    fn series_are_told_by_their_whole_name_and_their_labels() {
        let page = Page::new(TEXT.into());
        assert_eq!(page.attached(), 2);
        assert_eq!(page.sum("observer_interfaces", &[]), 3);
        assert_eq!(page.windows(), 3);
        assert_eq!(page.records(), 0);
    }

    #[test]
    fn an_eni_leads_to_its_label() {
        let page = Page::new(TEXT.into());
        assert_eq!(page.interface("eni-1").as_deref(), Some("interface=\"a1\""));
        assert_eq!(page.interface("eni-2"), None);
    }
}
