//! tshark's view of the headers in front of the transport header.

use observer_ebpf::{
    abi::{LossReason, NonIpKind},
    packet::MAX_VLAN_TAGS,
};

use crate::{
    packets::Input,
    tshark::{Dissection, number},
};

const NO_NEXT: u8 = 59;
const MOBILITY: u8 = 135;

/// The IP header that tshark found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) is_v6: bool,
    /// Its offset.
    pub(super) at: usize,
}

/// Finds the IP header behind the link header, or the kind of another frame.
pub(super) fn link(input: &Input, theirs: &Dissection) -> Result<Network, NonIpKind> {
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
    pub(super) fn refusal(self, input: &Input, theirs: &Dissection) -> Option<LossReason> {
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
    pub(super) fn has_unsaid_length(self, theirs: &Dissection) -> bool {
        let next = theirs.number("ipv6.nxt");
        self.is_v6 && theirs.number("ipv6.plen") == Some(0) && next != Some(NO_NEXT.into())
    }
}

/// tshark's fields of the headers up to the transport header.
pub(super) struct Chain {
    /// The next headers named by the IP header and by each extension header.
    pub(super) named: Vec<u8>,
    /// True for a later fragment.
    pub(super) is_later_fragment: bool,
    /// True if tshark stops at a header that names another.
    pub(super) is_left: bool,
}

pub(super) fn chain(network: Network, theirs: &Dissection) -> Option<Chain> {
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
pub(super) const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140)
}
