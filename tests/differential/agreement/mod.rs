//! Comparison of the parser with tshark, field by field.
//!
//! Every field that tshark shows must equal the parser's. A field that tshark does not show must be
//! unknown to the parser too, except for a [`Reason`]. Each reason is limited to certain packets
//! and fields, and the test requires that each occurs.

mod disagreement;
mod headers;
mod reason;
mod transport;

use std::net::IpAddr;

use observer_ebpf::{abi::Note, packet::MAX_EXTENSION_HEADERS};

pub(crate) use self::reason::Reason;
use self::{
    disagreement::{Disagreement, same},
    headers::{Chain, Network, chain, is_extension, link},
    transport::{nothing_behind, transport},
};
use crate::{
    packets::{Input, Outcome, reference},
    tshark::Dissection,
};

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

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}
