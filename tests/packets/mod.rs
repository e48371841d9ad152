//! Test packets of the parser: a corpus with expected outcomes, a generator, and a second parser
//! for comparison. Included by the parser's own tests and by those of the programs, so that both
//! use the same packets.

#![allow(clippy::panic, reason = "part of tests")]
#![allow(dead_code, reason = "each of the targets that include this uses a part of it")]

pub(crate) mod effort;
pub(crate) mod generator;
pub(crate) mod reference;
pub(crate) mod smallest;
pub(crate) mod test_run;

use std::{fmt, net::IpAddr};

use observer_ebpf::{
    abi::{Family, LossReason, NonIpKind, Note},
    packet::{Frame, Link, Offload, Packet, Skip, parse},
};
use serde::{Deserialize, Deserializer, de::Error as _};

/// A packet of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    /// Unique name.
    pub(crate) name: String,
    /// The reason for this packet.
    pub(crate) about: String,
    hex: String,
    length: Option<u32>,
    bare: Option<u16>,
    #[serde(default)]
    beside: u32,
    #[serde(default)]
    gso: (u32, u32),
    /// The expected outcome.
    pub(crate) expect: Outcome,
}

/// The input of the parser.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    /// The readable bytes.
    pub(crate) bytes: Vec<u8>,
    /// The kernel's metadata.
    pub(crate) frame: Frame,
}

/// The outcome of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    Flow {
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        #[serde(default)]
        source_port: u16,
        #[serde(default)]
        destination_port: u16,
        icmp: Option<(u8, u8)>,
        #[serde(default)]
        tcp_flags: u8,
        packets: u64,
        bytes: u64,
        #[serde(default, deserialize_with = "note")]
        note: Option<Note>,
    },
    Lost {
        #[serde(deserialize_with = "reason")]
        reason: LossReason,
        packets: u64,
        bytes: u64,
    },
    NonIp {
        #[serde(deserialize_with = "kind")]
        kind: NonIpKind,
    },
}

fn note<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Note>, D::Error> {
    named(from, &Note::ALL, Note::as_str).map(Some)
}

fn reason<'de, D: Deserializer<'de>>(from: D) -> Result<LossReason, D::Error> {
    named(from, &LossReason::ALL, LossReason::as_str)
}

fn kind<'de, D: Deserializer<'de>>(from: D) -> Result<NonIpKind, D::Error> {
    named(from, &NonIpKind::ALL, NonIpKind::as_str)
}

/// Deserializes a name to the item of `all` with that name.
fn named<'de, D: Deserializer<'de>, T: Copy>(
    from: D,
    all: &[T],
    name_of: fn(T) -> &'static str,
) -> Result<T, D::Error> {
    let name = String::deserialize(from)?;
    let it = all.iter().copied().find(|it| name_of(*it) == name);
    it.ok_or_else(|| D::Error::custom(format!("no such name: {name}")))
}

#[derive(Deserialize)]
struct File {
    packet: Vec<Sample>,
}

/// All packets of the corpus.
pub(crate) fn corpus() -> Vec<Sample> {
    // Included at compile time, because the program may run on another machine.
    let text = include_str!("corpus.toml");
    toml::from_str::<File>(text).unwrap_or_else(|error| panic!("corpus.toml: {error}")).packet
}

impl Sample {
    /// The parser's input.
    pub(crate) fn input(&self) -> Input {
        let digit = |c: u8| {
            char::from(c).to_digit(16).unwrap_or_else(|| panic!("{}: no hex", self.name)) as u8
        };
        let bytes: Vec<u8> = self
            .hex
            .as_bytes()
            .chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect();
        let frame = Frame {
            len: self.length.unwrap_or(bytes.len() as u32),
            link: self.bare.map_or(Link::Ethernet, Link::Bare),
            tags_beside: self.beside,
            offload: Offload { size: self.gso.0, segments: self.gso.1 },
        };
        Input { bytes, frame }
    }
}

impl Input {
    /// A complete Ethernet frame.
    pub(crate) fn whole(bytes: Vec<u8>) -> Self {
        let frame = Frame {
            len: bytes.len() as u32,
            link: Link::Ethernet,
            tags_beside: 0,
            offload: Offload { size: 0, segments: 0 },
        };
        Self { bytes, frame }
    }

    /// The same frame, ending after `len` bytes.
    pub(crate) fn shortened(&self, len: usize) -> Self {
        let frame = Frame { len: len as u32, ..self.frame };
        Self { bytes: self.bytes[..len].to_vec(), frame }
    }

    /// The same frame, with only the first `len` bytes captured.
    pub(crate) fn snapped(&self, len: usize) -> Self {
        Self { bytes: self.bytes[..len.min(self.bytes.len())].to_vec(), frame: self.frame }
    }

    /// True if the frame is longer than its readable bytes.
    pub(crate) fn is_snapped(&self) -> bool {
        self.frame.len as usize > self.bytes.len()
    }

    /// The parser's outcome.
    pub(crate) fn parsed(&self) -> Outcome {
        Outcome::of(&parse(&self.bytes[..], self.frame))
    }
}

/// An entry of the corpus, whose expectation is the outcome of the second parser.
impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[[packet]]\nname = \"\"\nabout = \"\"")?;
        write!(f, "hex = \"")?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        writeln!(f, "\"")?;
        if self.is_snapped() {
            writeln!(f, "length = {}", self.frame.len)?;
        }
        if let Link::Bare(ether_type) = self.frame.link {
            writeln!(f, "bare = {ether_type:#06x}")?;
        }
        if self.frame.tags_beside != 0 {
            writeln!(f, "beside = {}", self.frame.tags_beside)?;
        }
        let Offload { size, segments } = self.frame.offload;
        if (size, segments) != (0, 0) {
            writeln!(f, "gso = [{size}, {segments}]")?;
        }
        write!(f, "expect = {{ {} }}", reference::read(self).outcome)
    }
}

/// The format of the corpus.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flow {
                source,
                destination,
                protocol,
                source_port,
                destination_port,
                icmp,
                tcp_flags,
                packets,
                bytes,
                note,
            } => {
                write!(
                    f,
                    "outcome = \"flow\", source = \"{source}\", destination = \"{destination}\""
                )?;
                write!(f, ", protocol = {protocol}, bytes = {bytes}, packets = {packets}")?;
                if (*source_port, *destination_port) != (0, 0) {
                    write!(
                        f,
                        ", source_port = {source_port}, destination_port = {destination_port}"
                    )?;
                }
                if let Some((kind, code)) = icmp {
                    write!(f, ", icmp = [{kind}, {code}]")?;
                }
                if *tcp_flags != 0 {
                    write!(f, ", tcp_flags = {tcp_flags}")?;
                }
                note.map_or(Ok(()), |note| write!(f, ", note = \"{}\"", note.as_str()))
            }
            Self::Lost { reason, packets, bytes } => {
                let reason = reason.as_str();
                write!(
                    f,
                    "outcome = \"lost\", reason = \"{reason}\", bytes = {bytes}, packets = {packets}"
                )
            }
            Self::NonIp { kind } => write!(f, "outcome = \"non_ip\", kind = \"{}\"", kind.as_str()),
        }
    }
}

impl Outcome {
    /// Converts the parser's result.
    pub(crate) fn of(parsed: &Result<Packet, Skip>) -> Self {
        match parsed {
            Ok(packet) => Self::flow(packet),
            Err(Skip::NonIp(kind)) => Self::NonIp { kind: *kind },
            Err(Skip::Lost(reason, wire)) => {
                Self::Lost { reason: *reason, packets: wire.packets.into(), bytes: wire.bytes }
            }
            Err(Skip::Chain) => panic!("a slice follows every chain"),
        }
    }

    fn flow(packet: &Packet) -> Self {
        let ports = (packet.source_port_be, packet.destination_port_be);
        let (source_port, destination_port, icmp) = ports_and_icmp(packet.protocol, ports);
        Self::Flow {
            source: address(packet.family, packet.source),
            destination: address(packet.family, packet.destination),
            protocol: packet.protocol,
            source_port,
            destination_port,
            icmp,
            tcp_flags: packet.tcp_flags,
            packets: packet.wire.packets.into(),
            bytes: packet.wire.bytes,
            note: packet.note,
        }
    }
}

/// The address in the two words of a parsed packet of this family.
fn address(family: Family, words: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
    match family {
        Family::V4 => [bytes[12], bytes[13], bytes[14], bytes[15]].into(),
        Family::V6 => bytes.into(),
    }
}

fn ports_and_icmp(protocol: u8, (first, second): (u16, u16)) -> (u16, u16, Option<(u8, u8)>) {
    if matches!(protocol, 1 | 58) {
        let [kind, code] = first.to_ne_bytes();
        return (0, 0, (second != 0).then_some((kind, code)));
    }
    (u16::from_be(first), u16::from_be(second), None)
}
