//! The metrics page, in the Prometheus text format.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    tally::{Crossed, Direction, Tally},
    veth::Interface,
};

/// Labels and their values.
pub type Labels = BTreeMap<String, String>;

/// A sample of a metrics page.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Name of the series, with the suffixes of histograms.
    pub name: String,
    /// Labels by name.
    pub labels: Labels,
    /// Value.
    pub value: f64,
}

impl Sample {
    /// The value of a label; empty if it is missing.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|it| it == value))
    }
}

/// A parsed metrics page.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Every sample, in the page's order.
    pub samples: Vec<Sample>,
    /// Type of each family.
    pub types: BTreeMap<String, String>,
    /// The unparsed text.
    pub text: String,
}

/// The ledger of one interface and direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames and their total length, link headers included.
    pub frames: Tally,
    /// IP packets as on the wire, recorded or lost.
    pub seen: Tally,
    /// IP packets that the host's policy dropped before the hook, recorded or lost.
    pub stopped: Tally,
    /// IP packets that are in no record.
    pub lost: Tally,
}

impl Metrics {
    /// Parses a page strictly.
    pub fn parse(text: &str) -> Result<Self> {
        let mut page = Self { text: text.to_owned(), ..Self::default() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) =
                    rest.split_once(' ').with_context(|| format!("type in {line:?}"))?;
                let before = page.types.insert(name.to_owned(), kind.to_owned());
                ensure!(before.is_none(), "{name} has two types");
            } else if !line.starts_with('#') {
                page.samples.push(sample(line).with_context(|| format!("in the line {line:?}"))?);
            }
        }
        let mut seen = BTreeMap::new();
        for sample in &page.samples {
            let before = seen.insert((&sample.name, &sample.labels), sample.value);
            ensure!(before.is_none(), "{} {:?} is there twice", sample.name, sample.labels);
        }
        Ok(page)
    }

    /// Every family: its type, its meaning, and the labels of its series.
    pub fn shape(&self) -> String {
        let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for sample in &self.samples {
            let parts = ["_bucket", "_sum", "_count"];
            let family = parts.iter().filter_map(|part| sample.name.strip_suffix(part));
            let family = family.into_iter().find(|family| self.types.contains_key(*family));
            let names = sample.labels.keys().map(String::as_str).filter(|label| *label != "le");
            let names = names.collect::<Vec<_>>().join(", ");
            labels.entry(family.unwrap_or(&sample.name)).or_default().insert(names);
        }
        let mut shape = String::new();
        for line in self.text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let _ = writeln!(shape, "{help}");
            } else if let Some((family, kind)) =
                line.strip_prefix("# TYPE ").and_then(|it| it.split_once(' '))
            {
                let _ = write!(shape, "    {kind}");
                for names in labels.get(family).into_iter().flatten() {
                    let _ = write!(shape, " {{{names}}}");
                }
                shape += "\n";
            }
        }
        shape
    }

    /// Samples of a series with these labels.
    pub fn all<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name && sample.has(labels))
    }

    /// The sum of samples of a counter.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.all(name, labels).map(|sample| sample.value as u64).sum()
    }

    /// The only sample of a series with these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        self.all(name, labels).map(|sample| sample.value).next()
    }

    /// The info sample of an interface, found by its MAC address, which is unique in a scenario,
    /// and its namespace.
    pub fn info(&self, interface: &Interface) -> Option<&Sample> {
        let mac = interface.mac().to_string();
        let inode = interface.namespace().inode().to_string();
        self.samples.iter().find(|sample| {
            sample.name == "observer_interface_info"
                && sample.has(&[("mac", &mac), ("netns", &inode)])
        })
    }

    /// The ledger of an interface, ingress and egress; `None` if it is not on the page.
    pub fn ledger(&self, interface: &Interface) -> Option<[Ledger; 2]> {
        let id = self.info(interface)?.label("interface").to_owned();
        Some(Direction::ALL.map(|direction| {
            let tally = |name: &str| {
                let labels = [("interface", id.as_str()), ("direction", direction.as_str())];
                let sum =
                    |unit| self.sum(&format!("observer_interface_{name}{unit}_total"), &labels);
                match name {
                    "frame" => Tally::new(sum("s"), sum("_bytes")),
                    _ => Tally::new(sum("packets"), sum("bytes")),
                }
            };
            Ledger {
                frames: tally("frame"),
                seen: tally(""),
                stopped: tally("stopped_"),
                lost: tally("lost_"),
            }
        }))
    }

    /// Packets of an interface and direction that the kernel dropped for a reason.
    pub fn dropped(&self, interface: &Interface, direction: Direction, reason: &str) -> Tally {
        let id = self.info(interface).map_or("", |info| info.label("interface"));
        let labels = [("interface", id), ("direction", direction.as_str()), ("reason", reason)];
        let sum = |unit| self.sum(&format!("observer_interface_dropped_{unit}_total"), &labels);
        Tally::new(sum("packets"), sum("bytes"))
    }

    /// Packets that an interface carried and the programs did not count, for a reason.
    pub fn uncounted(&self, interface: &Interface, reason: &str) -> Crossed {
        let id = self.info(interface).map_or("", |info| info.label("interface"));
        Crossed::of(|direction| {
            let labels = [("interface", id), ("direction", direction.as_str()), ("reason", reason)];
            let sum = |unit| self.sum(&format!("observer_interface_lost_{unit}_total"), &labels);
            Tally::new(sum("packets"), sum("bytes"))
        })
    }

    /// Number of interfaces in a state.
    pub fn interfaces(&self, state: &str) -> u64 {
        self.sum("observer_interfaces", &[("state", state)])
    }

    /// Totals of an interface in the flow series.
    pub fn recorded(&self, interface: &Interface) -> Crossed {
        let id = self.info(interface).map_or("", |info| info.label("interface"));
        Crossed::of(|direction| {
            let labels = [("interface", id), ("direction", direction.as_str())];
            let sum =
                |unit| self.sum(&format!("observer_interface_recorded_{unit}_total"), &labels);
            Tally::new(sum("packets"), sum("bytes"))
        })
    }

    /// Lines of metrics with this prefix, for failure messages.
    pub fn shown(&self, prefix: &str) -> String {
        let mut shown = String::new();
        for line in self.text.lines().filter(|line| line.starts_with(prefix)) {
            let _ = writeln!(shown, "{line}");
        }
        shown
    }
}

fn sample(line: &str) -> Result<Sample> {
    let end = line.find(['{', ' ']).context("a name and a value")?;
    let (name, rest) = line.split_at(end);
    ensure!(is_name(name), "{name:?} is no name");
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.strip_prefix(' ').context("a space before the value")?;
    let value = match value {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        value => value.parse().with_context(|| format!("{value:?} is no value"))?,
    };
    Ok(Sample { name: name.to_owned(), labels, value })
}

/// Parses labels up to the closing brace; returns the rest.
fn labels(mut rest: &str) -> Result<(Labels, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once("=\"").context("a label's name")?;
        ensure!(is_name(name), "{name:?} is no label");
        let (value, after) = quoted(after)?;
        ensure!(labels.insert(name.to_owned(), value).is_none(), "the label {name} is there twice");
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// Parses a value up to its closing quote; returns the rest.
fn quoted(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                other => bail!("an escape that is none: {other:?}"),
            },
            character => value.push(character),
        }
    }
    bail!("a label's value without an end")
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_their_labels() {
        let page = Metrics::parse(
            "# HELP a_total What.\n# TYPE a_total counter\na_total{x=\"1\",y=\"q\\\"\\\\\\n,}\"} 5\na_total 3\nb +Inf\n",
        )
        .unwrap();
        assert_eq!(page.sum("a_total", &[]), 8);
        assert_eq!(page.sum("a_total", &[("x", "1")]), 5);
        assert_eq!(page.samples[0].label("y"), "q\"\\\n,}");
        assert_eq!(page.types["a_total"], "counter");
        assert_eq!(page.get("b", &[]), Some(f64::INFINITY));
    }

    #[test]
    fn what_is_no_page_is_refused() {
        for text in
            ["a", "a{x=\"1\" 5", "a{x=1} 5", "1a 5", "a 5\na 6", "a five", "a{x=\"1\",x=\"2\"} 1"]
        {
            assert!(Metrics::parse(text).is_err(), "{text:?}");
        }
    }
}
