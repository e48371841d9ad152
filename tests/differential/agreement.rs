//! Comparison of the parser with tshark, field by field.
//!
//! Every field that tshark shows must equal the parser's. A field that tshark does not show must be
//! unknown to the parser too, except for a [`Reason`]. Each reason is limited to certain packets
//! and fields, and the test requires that each occurs.

use std::{fmt::Debug, net::IpAddr};

use observer_ebpf::{
    abi::{LossReason, NonIpKind, Note},
    packet::{MAX_EXTENSION_HEADERS, MAX_VLAN_TAGS},
};
use thiserror::Error;

use crate::{
    packets::{Input, Outcome, reference},
    tshark::{Dissection, number},
};

/// Reasons why the parser may know a field that tshark does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The flags are in the 14th byte of the TCP header; tshark requires the window behind them
    /// before it shows them.
    FlagsBeforeTheWindow,
    /// The flags do not depend on the header's length; tshark stops at a length below 20 bytes.
    FlagsOfABogusTcpLength,
    /// The ports are the first 4 bytes; tshark shows nothing of an SCTP header below 12 bytes.
    PortsOfACutSctpHeader,
    /// IPv4 options may name another destination. tshark reads them first, and shows no destination
    /// if they are truncated. The parser reports the destination in the header.
    DestinationBeforeCutOptions,
    /// Type and code are the first 2 bytes; tshark shows nothing of an ICMP header that is
    /// truncated soon after them.
    TypeOfACutIcmpHeader,
    /// Extension headers are at least 8 bytes long, so the parser follows no shorter rest; tshark
    /// shows the protocol in its first byte.
    RestOfAnExtensionHeader,
    /// The parser follows a limited number of headers and reports the protocol of the last one;
    /// tshark follows all.
    ExtensionLimit,
    /// Mobility, HIP and Shim6 messages have a next header, like extension headers, which so far
    /// must name none (RFC 6275, 6.1.1; RFC 7401, 5.1; RFC 5533, 5.1). tshark ignores it.
    BehindMessage,
    /// The contents of an options or routing header exceed it. The parser uses the header's length;
    /// tshark stops.
    BehindMalformedHeader,
    /// The IPv6 header has length 0: the length is in an option of the first extension header, or
    /// missing, as with segmentation by the network card. The parser uses the frame's length.
    /// tshark requires an option above 64 KiB and a frame of that length; otherwise it takes the
    /// packet for empty.
    UnsaidLength,
}

impl Reason {
    pub(crate) const ALL: [Self; 10] = [
        Self::FlagsBeforeTheWindow,
        Self::FlagsOfABogusTcpLength,
        Self::PortsOfACutSctpHeader,
        Self::DestinationBeforeCutOptions,
        Self::TypeOfACutIcmpHeader,
        Self::RestOfAnExtensionHeader,
        Self::ExtensionLimit,
        Self::BehindMessage,
        Self::BehindMalformedHeader,
        Self::UnsaidLength,
    ];
}

const TCP: u8 = 6;
const SCTP: u8 = 132;
const NO_NEXT: u8 = 59;
const MOBILITY: u8 = 135;

/// A field in which the parser and tshark disagree.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Disagreement(String);

/// Compares a frame. Returns the reasons that were needed for agreement.
pub(crate) fn agree(input: &Input, theirs: &Dissection) -> Result<Vec<Reason>, Disagreement> {
    match (input.parsed(), link(input, theirs)) {
        (Outcome::NonIp { kind }, Err(their_kind)) => {
            same("kind", kind, their_kind).map(|()| Vec::new())
        }
        (Outcome::NonIp { kind }, Ok(network)) => {
            Err(Disagreement(format!("{kind:?}, but tshark finds {network:?}")))
        }
        (outcome, Err(their_kind)) => {
            Err(Disagreement(format!("{outcome}, but tshark finds {their_kind:?}")))
        }
        (outcome, Ok(network)) => match (outcome, network.refusal(input, theirs)) {
            (Outcome::Lost { reason, .. }, Some(refusal)) => {
                same("reason", reason, refusal).map(|()| Vec::new())
            }
            (Outcome::Lost { reason, .. }, None) => {
                Err(Disagreement(format!("{reason:?}, but tshark reads it")))
            }
            (outcome, Some(refusal)) => {
                Err(Disagreement(format!("{outcome}, but tshark says {refusal:?}")))
            }
            (outcome, None) => flow(&outcome, network, input, theirs),
        },
    }
}

fn same<T: Copy + PartialEq + Debug>(field: &str, ours: T, theirs: T) -> Result<(), Disagreement> {
    if ours == theirs {
        Ok(())
    } else {
        Err(Disagreement(format!("{field}: {ours:?}, tshark {theirs:?}")))
    }
}

/// The IP header that tshark found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    is_v6: bool,
    /// Its offset.
    at: usize,
}

/// Finds the IP header behind the link header, or the kind of another frame.
fn link(input: &Input, theirs: &Dissection) -> Result<Network, NonIpKind> {
    let behind_ethernet = theirs.layers.iter().skip(1).filter(|layer| *layer != "ethertype");
    let tags = behind_ethernet.take_while(|layer| *layer == "vlan").count();
    let at = 14 + 4 * tags;
    if tags > MAX_VLAN_TAGS as usize {
        return Err(NonIpKind::VlanDepth);
    }
    if input.bytes.len() < at {
        return Err(NonIpKind::Short);
    }
    let ether_type = match tags {
        0 => theirs.number("eth.type"),
        tags => theirs.all("vlan.etype").get(tags - 1).map(|text| number(text)),
    };
    match ether_type {
        Some(0x0800) => Ok(Network { is_v6: false, at }),
        Some(0x86dd) => Ok(Network { is_v6: true, at }),
        Some(0x0806) => Err(NonIpKind::Arp),
        _ => Err(NonIpKind::Other),
    }
}

impl Network {
    /// tshark's complaint about the IP header.
    fn refusal(self, input: &Input, theirs: &Dissection) -> Option<LossReason> {
        let (header, version) = if self.is_v6 { (40, 6) } else { (20, 4) };
        if input.bytes.len() < self.at + header {
            return Some(LossReason::IpTruncated);
        }
        if theirs.number("ip.version") != Some(version) {
            return Some(LossReason::IpVersion);
        }
        let behind_link = input.frame.len - self.at as u32;
        let (field, is_wrong) = if self.is_v6 {
            (
                "ipv6.plen_exceeds_framing",
                theirs.number("ipv6.plen").is_some_and(|length| 40 + length > behind_link),
            )
        } else {
            let header = theirs.number("ip.hdr_len");
            if header.is_some_and(|length| length < 20) {
                return Some(LossReason::IpHeaderLength);
            }
            let length = theirs.number("ip.len");
            ("ip.bogus_ip_length", length < header || length > Some(behind_link))
        };
        // A complaint about an inner header does not count.
        let is_alone =
            theirs.layers.iter().filter(|layer| matches!(layer.as_str(), "ip" | "ipv6")).count()
                == 1;
        if self.has_unsaid_length(theirs) {
            return None;
        }
        let is_refused = theirs.first(field).is_some() && (is_alone || is_wrong);
        is_refused.then_some(LossReason::IpTotalLength)
    }

    /// True for an IPv6 header without a length that is not the end of the packet.
    fn has_unsaid_length(self, theirs: &Dissection) -> bool {
        let next = theirs.number("ipv6.nxt");
        self.is_v6 && theirs.number("ipv6.plen") == Some(0) && next != Some(NO_NEXT.into())
    }
}

/// tshark's fields of the headers up to the transport header.
struct Chain {
    /// The next headers named by the IP header and by each extension header.
    named: Vec<u8>,
    /// True for a later fragment.
    is_later_fragment: bool,
    /// True if tshark stops at a header that names another.
    is_left: bool,
}

fn chain(network: Network, theirs: &Dissection) -> Option<Chain> {
    let is_not_0 = |offset: u32| offset != 0;
    if !network.is_v6 {
        let named = vec![theirs.number("ip.proto")? as u8];
        let is_later_fragment = theirs.number("ip.frag_offset").is_some_and(is_not_0);
        return Some(Chain { named, is_later_fragment, is_left: false });
    }
    let named = vec![theirs.number("ipv6.nxt")? as u8];
    let mut chain = Chain { named, is_later_fragment: false, is_left: false };
    let mut met: Vec<&str> = Vec::new();
    for layer in theirs.layers.iter().skip_while(|layer| *layer != "ipv6").skip(1) {
        let field = match layer.as_str() {
            "ipv6.hopopts" => "ipv6.hopopts.nxt",
            "ipv6.routing" => "ipv6.routing.nxt",
            "ipv6.dstopts" => "ipv6.dstopts.nxt",
            "ipv6.fraghdr" => "ipv6.fraghdr.nxt",
            "ah" => "ah.next_header",
            // tshark shows Mobility as 62, a number from an early draft.
            "mipv6" if chain.named.last() == Some(&MOBILITY) => "mip6.proto",
            "hip" => "hip.proto",
            "shim6" => "shim6.nxt",
            _ => break,
        };
        let earlier = met.iter().filter(|met| *met == layer).count();
        let Some(next) = theirs.all(field).get(earlier) else { break };
        chain.named.push(number(next) as u8);
        if layer == "ipv6.fraghdr"
            && theirs
                .all("ipv6.fraghdr.offset")
                .get(earlier)
                .is_some_and(|offset| number(offset) != 0)
        {
            chain.is_later_fragment = true;
            break;
        }
        let is_message = match layer.as_str() {
            "mipv6" | "hip" => true,
            "shim6" => {
                theirs.all("shim6.p").get(earlier).is_some_and(|payload| number(payload) == 0)
            }
            _ => false,
        };
        chain.is_left = is_message && chain.named.last() != Some(&NO_NEXT);
        met.push(layer);
    }
    Some(chain)
}

/// IANA's IPv6 extension headers, except ESP, which encrypts the rest, and the two experimental
/// numbers.
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}

fn flow(
    ours: &Outcome,
    network: Network,
    input: &Input,
    theirs: &Dissection,
) -> Result<Vec<Reason>, Disagreement> {
    let &Outcome::Flow { source, destination, bytes, .. } = ours else {
        return Err(Disagreement("no flow".into()));
    };
    let mut reasons = Vec::new();
    let (source_field, destination_field) = match network.is_v6 {
        true => ("ipv6.src", "ipv6.dst"),
        // With a source route, the destination in the header is the next hop.
        false if theirs.first("ip.cur_rt").is_some() => ("ip.src", "ip.cur_rt"),
        false => ("ip.src", "ip.dst"),
    };
    same("source", Some(source), theirs.first(source_field).and_then(address))?;
    let their_destination = theirs.first(destination_field).and_then(address);
    let cut = theirs
        .number("ip.hdr_len")
        .is_some_and(|header| input.bytes.len() < network.at + header as usize);
    if their_destination.is_none() && !network.is_v6 && cut {
        reasons.push(Reason::DestinationBeforeCutOptions);
    } else {
        same("destination", Some(destination), their_destination)?;
    }

    if network.has_unsaid_length(theirs) {
        same("length that is not said", bytes, u64::from(input.frame.len) - network.at as u64)?;
        reasons.push(Reason::UnsaidLength);
        return Ok(reasons);
    }
    let length = if network.is_v6 {
        theirs.number("ipv6.plen").map(|length| 40 + length)
    } else {
        theirs.number("ip.len")
    };
    same("length", Some(bytes), length.map(u64::from))?;

    let reading = reference::read(input);
    let Some(chain) = chain(network, theirs) else {
        return Err(Disagreement("tshark names no protocol".into()));
    };
    if chain.is_left {
        reasons.push(Reason::BehindMessage);
        return Ok(reasons);
    }
    let stops = stops_at_malformed_header(network, &chain, &reading, theirs);
    match behind(ours, network, chain, &reading, theirs) {
        Err(_) if stops => reasons.push(Reason::BehindMalformedHeader),
        behind => reasons.extend(behind?),
    }
    Ok(reasons)
}

/// True if tshark reports its last header as malformed although more bytes follow.
fn stops_at_malformed_header(
    network: Network,
    chain: &Chain,
    reading: &reference::Reading,
    theirs: &Dissection,
) -> bool {
    // tshark reports a malformed header in a first fragment as not reassembled, and one in a
    // truncated frame as truncated.
    let complaints = ["_ws.malformed", "_ws.unreassembled", "_ws.short"];
    let is_malformed = complaints.into_iter().any(|field| theirs.first(field).is_some());
    let ends_there = match theirs.layers.last().map_or("", String::as_str) {
        "ipv6.hopopts" | "ipv6.dstopts" | "ipv6.routing" => network.is_v6,
        "ip" => theirs.number("ip.hdr_len") > Some(20),
        _ => false,
    };
    is_malformed && ends_there && (reading.payload > 0 || reading.extensions >= chain.named.len())
}

/// Compares the protocol and the header that it names.
fn behind(
    ours: &Outcome,
    network: Network,
    chain: Chain,
    reading: &reference::Reading,
    theirs: &Dissection,
) -> Result<Option<Reason>, Disagreement> {
    let &Outcome::Flow { protocol, note, .. } = ours else {
        return Err(Disagreement("no flow".into()));
    };
    let &reference::Reading { payload, extensions, .. } = reading;
    let Chain { mut named, is_later_fragment, .. } = chain;
    let is_followed =
        |named: &[u8]| network.is_v6 && named.last().copied().is_some_and(is_extension);
    let limit = MAX_EXTENSION_HEADERS as usize + 1;
    let mut reason = None;
    if is_later_fragment && named.len() <= limit {
        same("note", note, Some(Note::LaterFragment))?;
    } else if (1..8).contains(&payload) && extensions + 1 < limit && named.len() == extensions + 2 {
        same("note", note, Some(Note::ExtensionTruncated))?;
        named.pop();
        reason = Some(Reason::RestOfAnExtensionHeader);
    } else if named.len() > limit || named.len() == limit && is_followed(&named) {
        same("note", note, Some(Note::ExtensionLimit))?;
        named.truncate(limit);
        reason = Some(Reason::ExtensionLimit);
    } else if is_followed(&named) {
        same("note", note, Some(Note::ExtensionTruncated))?;
    } else {
        let reason = transport(ours, payload, theirs)?;
        same("protocol", Some(&protocol), named.last())?;
        return Ok(reason);
    }
    same("protocol", Some(&protocol), named.last())?;
    nothing_behind(ours)?;
    Ok(reason)
}

/// Checks that without a transport header no field of one is known.
fn nothing_behind(ours: &Outcome) -> Result<(), Disagreement> {
    match ours {
        Outcome::Flow { source_port: 0, destination_port: 0, icmp: None, tcp_flags: 0, .. } => {
            Ok(())
        }
        ours => Err(Disagreement(format!("{ours} without a transport header"))),
    }
}

fn transport(
    ours: &Outcome,
    payload: usize,
    theirs: &Dissection,
) -> Result<Option<Reason>, Disagreement> {
    let &Outcome::Flow { protocol, source_port, destination_port, icmp, tcp_flags, note, .. } =
        ours
    else {
        return Err(Disagreement("no flow".into()));
    };
    let [first, second] = match protocol {
        TCP => ["tcp.srcport", "tcp.dstport"],
        17 | 136 => ["udp.srcport", "udp.dstport"],
        33 => ["dccp.srcport", "dccp.dstport"],
        SCTP => ["sctp.srcport", "sctp.dstport"],
        1 => ["icmp.type", "icmp.code"],
        58 => ["icmpv6.type", "icmpv6.code"],
        _ => {
            same("note", note, None)?;
            return nothing_behind(ours).map(|()| None);
        }
    };
    let is_icmp = matches!(protocol, 1 | 58);
    let shown = theirs.number(first).zip(theirs.number(second));
    let flags = theirs.number("tcp.flags").filter(|_| protocol == TCP);
    let known = if is_icmp {
        icmp.map(|(kind, code)| (kind.into(), code.into()))
    } else {
        // A readable port 0 is shown as 0.
        let is_known = (source_port, destination_port) != (0, 0) || shown == Some((0, 0));
        is_known.then_some((source_port.into(), destination_port.into()))
    };

    let mut reason = None;
    if known != shown {
        reason = match protocol {
            SCTP if shown.is_none() && (4..12).contains(&payload) => {
                Some(Reason::PortsOfACutSctpHeader)
            }
            1 | 58 if shown.is_none() && (2..8).contains(&payload) => {
                Some(Reason::TypeOfACutIcmpHeader)
            }
            _ => {
                return Err(Disagreement(format!(
                    "{first}, {second}: {known:?}, tshark {shown:?}"
                )));
            }
        };
    }
    let is_whole = match protocol {
        TCP if flags.is_none() && tcp_flags != 0 || note.is_none() && flags.is_none() => {
            reason = Some(match payload {
                14..16 => Reason::FlagsBeforeTheWindow,
                16.. if theirs.number("tcp.hdr_len") < Some(20) => Reason::FlagsOfABogusTcpLength,
                _ => {
                    return Err(Disagreement(format!(
                        "TCP flags {tcp_flags:#04x}, tshark shows none"
                    )));
                }
            });
            true
        }
        TCP => {
            // The ninth flag (RFC 9768) and the reserved ones are not compared.
            same("TCP flags", tcp_flags.into(), flags.unwrap_or(0) & 0xff)?;
            flags.is_some()
        }
        _ => shown.is_some() || reason.is_some(),
    };
    same("note", note, (!is_whole).then_some(Note::TransportTruncated))?;
    Ok(reason)
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
