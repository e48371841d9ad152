//! Comparison of the transport header.

use observer_ebpf::abi::Note;

use super::{
    disagreement::{Disagreement, same},
    reason::Reason,
};
use crate::{packets::Outcome, tshark::Dissection};

const TCP: u8 = 6;
const SCTP: u8 = 132;

/// Checks that without a transport header no field of one is known.
pub(super) fn nothing_behind(ours: &Outcome) -> Result<(), Disagreement> {
    match ours {
        Outcome::Flow { source_port: 0, destination_port: 0, icmp: None, tcp_flags: 0, .. } => {
            Ok(())
        }
        ours => Err(Disagreement(format!("{ours} without a transport header"))),
    }
}

/// tshark's names of the ports, or of type and code; `None` for a protocol without them.
const fn first_fields(protocol: u8) -> Option<[&'static str; 2]> {
    Some(match protocol {
        TCP => ["tcp.srcport", "tcp.dstport"],
        17 | 136 => ["udp.srcport", "udp.dstport"],
        33 => ["dccp.srcport", "dccp.dstport"],
        SCTP => ["sctp.srcport", "sctp.dstport"],
        1 => ["icmp.type", "icmp.code"],
        58 => ["icmpv6.type", "icmpv6.code"],
        _ => return None,
    })
}

/// Compares the transport header. Returns the reason that was needed for agreement.
pub(super) fn transport(
    ours: &Outcome,
    payload: usize,
    theirs: &Dissection,
) -> Result<Option<Reason>, Disagreement> {
    let &Outcome::Flow { protocol, source_port, destination_port, icmp, tcp_flags, note, .. } =
        ours
    else {
        return Err(Disagreement("no flow".into()));
    };
    let Some([first, second]) = first_fields(protocol) else {
        same("note", note, None)?;
        return nothing_behind(ours).map(|()| None);
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
