//! The corpus of packets, and what each must come to. Included by the parser's own tests and by those of the programs,
//! so that both read the same packets in the same way.

#![allow(clippy::panic, reason = "part of tests")]

use std::{net::IpAddr, path::Path};

use observer_ebpf::{
    abi::FlowKey,
    packet::{Frame, Link, Offload, Packet, Skip, parse},
};
use serde::Deserialize;

/// One packet of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sample {
    /// Unique.
    pub(crate) name: String,
    /// Why it is here.
    pub(crate) about: String,
    hex: String,
    #[serde(default)]
    gso: (u32, u32),
    /// What must come of it.
    pub(crate) expect: Outcome,
}

/// What came of a packet, in words.
#[derive(Debug, PartialEq, Eq, Deserialize)]
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
        note: Option<String>,
    },
    Lost {
        reason: String,
        packets: u64,
        bytes: u64,
    },
    NonIp {
        kind: String,
    },
}

#[derive(Deserialize)]
struct File {
    packet: Vec<Sample>,
}

/// All packets of the corpus.
pub(crate) fn corpus() -> Vec<Sample> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/packets/corpus.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str::<File>(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())).packet
}

impl Sample {
    /// The frame from its link header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let digit =
            |c: u8| char::from(c).to_digit(16).unwrap_or_else(|| panic!("{}: no hex", self.name)) as u8;
        self.hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    /// What the socket buffer says of it.
    pub(crate) fn offload(&self) -> Offload {
        Offload { size: self.gso.0, segments: self.gso.1 }
    }
}

/// What the parser makes of a frame.
pub(crate) fn parsed(bytes: &[u8], offload: Offload) -> Outcome {
    match parse(bytes, Frame { len: bytes.len() as u32, link: Link::Ethernet, offload }) {
        Ok(packet) => Outcome::of(&packet),
        Err(Skip::NonIp(kind)) => Outcome::NonIp { kind: kind.as_str().into() },
        Err(Skip::Lost(reason, wire)) => {
            Outcome::Lost { reason: reason.as_str().into(), packets: wire.packets.into(), bytes: wire.bytes }
        }
        Err(Skip::Chain) => panic!("a slice follows every chain"),
    }
}

impl Outcome {
    /// Of a packet that reaches a flow.
    pub(crate) fn of(packet: &Packet) -> Self {
        let ports = (packet.source_port_be, packet.destination_port_be);
        let (source_port, destination_port, icmp) = ports_and_icmp(packet.protocol, ports);
        Self::Flow {
            source: address(packet.source),
            destination: address(packet.destination),
            protocol: packet.protocol,
            source_port,
            destination_port,
            icmp,
            tcp_flags: packet.tcp_flags,
            packets: packet.wire.packets.into(),
            bytes: packet.wire.bytes,
            note: packet.note.map(|note| note.as_str().into()),
        }
    }
}

/// The address in two words of a [`FlowKey`].
pub(crate) fn address(words: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
    let v4 = [bytes[12], bytes[13], bytes[14], bytes[15]];
    if FlowKey::mapped(v4) == words { v4.into() } else { bytes.into() }
}

fn ports_and_icmp(protocol: u8, (first, second): (u16, u16)) -> (u16, u16, Option<(u8, u8)>) {
    if matches!(protocol, 1 | 58) {
        let [kind, code] = first.to_ne_bytes();
        return (0, 0, (second != 0).then_some((kind, code)));
    }
    (u16::from_be(first), u16::from_be(second), None)
}
