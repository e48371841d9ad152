//! Community ID, version 1: a hash of a flow that other tools compute too
//! (corelight/community-id-spec).

use std::net::IpAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha1::{Digest as _, Sha1};

use crate::flow::{FlowKey, Icmp};

/// The ID as text: `1:` and the hash in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommunityId([u8; 30]);

impl CommunityId {
    /// Computes the ID of a flow, which is the same for both directions. `None` if the flow holds
    /// ICMP messages of several types.
    pub fn of(key: &FlowKey, icmp: Icmp) -> Option<Self> {
        let protocol = key.protocol();
        let (ports, both_ways) = match (protocol, icmp) {
            (ICMP | ICMP_V6, Icmp::One { kind, code }) => match counterpart(protocol, kind) {
                Some(other) => ((u16::from(kind), u16::from(other)), true),
                None => ((u16::from(kind), u16::from(code)), false),
            },
            (ICMP | ICMP_V6, _) => return None,
            _ => ((key.source_port(), key.destination_port()), true),
        };
        let (source, destination) = (key.source(), key.destination());
        let mut ends = [(source, ports.0), (destination, ports.1)];
        if both_ways && ends[1] < ends[0] {
            ends.swap(0, 1);
        }
        let mut text = Text { bytes: [0; 40], length: 0 };
        // The seed, 0 by default, with which installations can make their IDs differ.
        text.push(&[0, 0]);
        for (address, _) in ends {
            match address {
                IpAddr::V4(address) => text.push(&address.octets()),
                IpAddr::V6(address) => text.push(&address.octets()),
            }
        }
        text.push(&[protocol, 0]);
        if matches!(protocol, ICMP | TCP | UDP | ICMP_V6 | SCTP) {
            for (_, port) in ends {
                text.push(&port.to_be_bytes());
            }
        }
        let mut id = *b"1:############################";
        // 20 bytes have 28 base64 digits.
        STANDARD.encode_slice(Sha1::digest(text.bytes()), &mut id[2..]).ok()?;
        Some(Self(id))
    }

    /// The text.
    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP_V6: u8 = 58;
const SCTP: u8 = 132;

/// The ICMP type that answers this one, or that this one answers.
const fn counterpart(protocol: u8, kind: u8) -> Option<u8> {
    Some(match (protocol, kind) {
        (ICMP, 0) => 8,
        (ICMP, 8) => 0,
        (ICMP, 9) => 10,
        (ICMP, 10) => 9,
        (ICMP, 13) => 14,
        (ICMP, 14) => 13,
        (ICMP, 15) => 16,
        (ICMP, 16) => 15,
        (ICMP, 17) => 18,
        (ICMP, 18) => 17,
        (ICMP_V6, 128) => 129,
        (ICMP_V6, 129) => 128,
        (ICMP_V6, 130) => 131,
        (ICMP_V6, 131) => 130,
        (ICMP_V6, 133) => 134,
        (ICMP_V6, 134) => 133,
        (ICMP_V6, 135) => 136,
        (ICMP_V6, 136) => 135,
        (ICMP_V6, 139) => 140,
        (ICMP_V6, 140) => 139,
        (ICMP_V6, 144) => 145,
        (ICMP_V6, 145) => 144,
        _ => return None,
    })
}

/// Input of the hash.
struct Text {
    bytes: [u8; 40],
    length: usize,
}

impl Text {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
