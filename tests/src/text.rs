//! Text record files, checked against the combined restrictions of their strictest readers.
//!
//! Vector splits at every single space and reads two spaces as an empty field. The `OpenTelemetry`
//! collector discards a whole file because of one bad number or a header that is not the first
//! line. Filebeat recognises formats by their number of fields. `flowlogs-reader` requires gzip.

use std::{
    fs::File,
    io::Read as _,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use flate2::read::GzDecoder;

use crate::records::{FileName, finished};

const HEADER: &str = "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start \
                      end action log-status";

/// A line in AWS's default format that every reader accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// All fields except the version, unparsed.
    pub facts: Vec<String>,
}

impl Line {
    /// Parses a line.
    pub fn parse(line: &str) -> Result<Self> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [
            version,
            account,
            interface,
            source,
            destination,
            source_port,
            destination_port,
            protocol,
            packets,
            bytes,
            start,
            end,
            action,
            status,
        ] = fields[..]
        else {
            bail!("{} fields", fields.len());
        };
        ensure!(
            line.bytes().all(|byte| matches!(byte, b' '..=b'~')),
            "a byte outside of printable ASCII"
        );
        ensure!(fields.iter().all(|field| !field.is_empty()), "an empty field");
        ensure!(version == "2", "version {version}");
        let account_digits =
            account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        ensure!(account_digits || account == "-" || account == "unknown", "account {account}");
        ensure!(interface != "-", "no interface");
        let (start, end): (u32, u32) = (start.parse()?, end.parse()?);
        ensure!(start <= end, "it ends before it starts");
        let of_flow =
            [source, destination, source_port, destination_port, protocol, packets, bytes, action];
        match status {
            "OK" => {
                let (source, destination): (IpAddr, IpAddr) =
                    (source.parse()?, destination.parse()?);
                ensure!(source.is_ipv4() == destination.is_ipv4(), "addresses of two families");
                source_port.parse::<u16>()?;
                destination_port.parse::<u16>()?;
                protocol.parse::<u8>()?;
                // AWS uses a signed 64-bit number.
                ensure!(
                    packets.parse::<i64>()? > 0 && bytes.parse::<i64>()? > 0,
                    "a flow of nothing"
                );
                ensure!(action == "ACCEPT" || action == "REJECT", "action {action}");
            }
            "NODATA" | "SKIPDATA" => {
                ensure!(of_flow.iter().all(|field| *field == "-"), "{status} with facts of a flow");
            }
            _ => bail!("log-status {status}"),
        }
        Ok(Self { facts: fields[1..].iter().map(|field| (*field).to_owned()).collect() })
    }

    fn end(&self) -> Result<i64> {
        self.facts.get(10).context("an end")?.parse().context("a number")
    }
}

/// Lines and paths of all finished text files below `directory`.
pub fn read(directory: &Path) -> Result<(Vec<Line>, Vec<PathBuf>)> {
    let files = finished(directory, "log.gz")?;
    let mut lines = Vec::new();
    for file in &files {
        let name =
            FileName::parse(directory, file).with_context(|| format!("{}", file.display()))?;
        let text = unpacked(file).with_context(|| format!("{}", file.display()))?;
        let (header, rest) = text.split_once('\n').context("a first line")?;
        ensure!(header == HEADER, "{}: the header is {header:?}", file.display());
        ensure!(rest.is_empty() || rest.ends_with('\n'), "{} ends inside a line", file.display());
        for (number, line) in rest.lines().enumerate() {
            let place = || format!("{}, line {}: {line:?}", file.display(), number + 2);
            let line = Line::parse(line).with_context(place)?;
            name.check(line.end()?).with_context(place)?;
            lines.push(line);
        }
    }
    Ok((lines, files))
}

/// Header and lines of all finished text files below `directory`, in any format.
pub fn lines(directory: &Path) -> Result<(String, Vec<String>)> {
    let (mut header, mut lines) = (None, Vec::new());
    for file in finished(directory, "log.gz")? {
        let text = unpacked(&file).with_context(|| format!("{}", file.display()))?;
        let (first, rest) = text.split_once('\n').context("a first line")?;
        let header = header.get_or_insert_with(|| first.to_owned());
        ensure!(first == header, "{}: the header is {first:?}", file.display());
        let words = header.split(' ').count();
        for line in rest.split_inclusive('\n') {
            let line = line.strip_suffix('\n').context("a last line that ends")?;
            ensure!(line.split(' ').count() == words, "{}: {line:?}", file.display());
            ensure!(line.split(' ').all(|word| !word.is_empty()), "{}: {line:?}", file.display());
            lines.push(line.to_owned());
        }
    }
    Ok((header.context("a text file")?, lines))
}

/// Text of a gzip file, which must have one member, as some readers require.
fn unpacked(path: &Path) -> Result<String> {
    let mut decoder = GzDecoder::new(File::open(path)?);
    let mut text = String::new();
    decoder.read_to_string(&mut text).context("unpacking")?;
    let mut rest = Vec::new();
    decoder.into_inner().read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes behind the first member", rest.len());
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_aws_pass() {
        for line in [
            "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 \
             ACCEPT OK",
            "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1431280876 1431280934 - NODATA",
            "2 123456789010 eni-11111111aaaaaaaaa - - - - - - - 1431280876 1431280934 - SKIPDATA",
            "2 123456789010 eni-1235b8ca123456789 203.0.113.12 172.31.16.139 0 0 1 4 336 1432917027 1432917142 ACCEPT \
             OK",
        ] {
            Line::parse(line).unwrap();
        }
    }

    #[test]
    fn what_a_strict_reader_refuses_is_refused() {
        let good = "2 123456789010 eni-1 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK";
        Line::parse(good).unwrap();
        for (part, instead) in [
            (" OK", ""),
            (" OK", " OK "),
            (" 22 ", "  22 "),
            (" 22 ", " 65536 "),
            (" 22 ", " - "),
            ("1418530070", "1418530009"),
            ("1418530010", "1418530010123"),
            ("172.31.16.21", "fe80::1"),
            ("ACCEPT", "accept"),
            (" OK", " NODATA"),
            ("eni-1", "eni-\u{e9}"),
            (" 20 ", " 0 "),
        ] {
            Line::parse(&good.replacen(part, instead, 1)).unwrap_err();
        }
    }
}
