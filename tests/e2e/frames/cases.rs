//! Frames with their expected outcomes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use observer_tests::traffic::frames::{
    Ipv4, Ipv6, LINK_HEADER, authentication, ether_type, ethernet, extension, fragment, ports,
    protocol, tagged, tcp, udp,
};

/// Outcome of a frame at one hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// A flow with protocol, ports and bytes, and an optional note.
    Flow(u8, (u16, u16), u64, Option<&'static str>),
    /// A loss with reason and bytes.
    Lost(&'static str, u64),
    /// A frame without IP, of this kind.
    NonIp(&'static str),
    /// The kernel drops the frame before the hook.
    Unseen,
}

use Fate::{Flow, Lost, NonIp, Unseen};

pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) frame: Vec<u8>,
    /// Unique source address, which identifies the case.
    pub(super) source: IpAddr,
    pub(super) egress: Fate,
    pub(super) ingress: Fate,
    /// True if the kernel removes the outer tag from the frame before the ingress hook.
    pub(super) tagged: bool,
}

const SOURCE: u16 = 1111;
const TARGET: u16 = 2222;
const PORTS: (u16, u16) = (SOURCE, TARGET);
const NONE: (u16, u16) = (0, 0);
const MORE_FRAGMENTS: u16 = 0x2000;

#[derive(Default)]
pub(super) struct Cases(pub(super) Vec<Case>);

impl Cases {
    fn add(&mut self, what: &'static str, source: IpAddr, frame: Vec<u8>, fate: Fate) -> &mut Case {
        let index = self.0.len();
        self.0.push(Case { what, frame, source, egress: fate, ingress: fate, tagged: false });
        &mut self.0[index]
    }

    /// An IPv4 packet with this payload, modified by `change`.
    fn v4(
        &mut self,
        what: &'static str,
        (protocol, payload): (u8, Vec<u8>),
        change: impl FnOnce(&mut Ipv4),
        fate: Fate,
    ) -> &mut Case {
        let source = Ipv4Addr::new(10, 9, 1, self.0.len() as u8);
        let mut packet = Ipv4::new(source, protocol, payload);
        change(&mut packet);
        self.add(what, source.into(), packet.frame(), fate)
    }

    /// An IPv6 packet with this payload and these extension headers, modified by `change`.
    fn v6(
        &mut self,
        what: &'static str,
        (protocol, payload): (u8, Vec<u8>),
        extensions: Vec<(u8, Vec<u8>)>,
        change: impl FnOnce(&mut Ipv6),
        fate: Fate,
    ) -> &mut Case {
        let source = Ipv6Addr::new(0x2001, 0xdb8, 0, 9, 0, 0, 0, self.0.len() as u16);
        let mut packet = Ipv6::new(source, protocol, payload).behind(extensions);
        change(&mut packet);
        self.add(what, source.into(), packet.frame(), fate)
    }
}

/// A UDP datagram with this number of bytes of payload.
fn datagram(payload: usize) -> (u8, Vec<u8>) {
    (protocol::UDP, udp(SOURCE, TARGET, payload))
}

/// The outcome of a [`datagram`] in a packet of this length.
const fn flow(bytes: u64) -> Fate {
    Flow(protocol::UDP, PORTS, bytes, None)
}

/// Leaves a packet unchanged.
const fn plain<P>(_: &mut P) {}

pub(super) fn ipv4_cases(cases: &mut Cases) {
    ipv4_headers(cases);
    ipv4_protocols(cases);
    cut_transports(cases);
    malformed_ipv4(cases);
}

/// Lengths, options, padding and fragments.
fn ipv4_headers(cases: &mut Cases) {
    cases.v4("plain UDP", datagram(10), plain, flow(38));
    cases.v4("a UDP datagram without payload", datagram(0), plain, flow(28));
    let segment = (protocol::TCP, tcp(SOURCE, TARGET, 0x10));
    cases.v4("a bare ACK", segment, plain, Flow(protocol::TCP, PORTS, 40, None));
    cases.v4("40 bytes of options", datagram(10), |packet| packet.options = vec![1; 40], flow(78));
    cases.v4("4 bytes of options", datagram(10), |packet| packet.options = vec![1; 4], flow(42));
    let padded = cases.v4("padding behind the packet", datagram(2), plain, flow(30));
    padded.frame.resize(60, 0);
    cases.v4("a first fragment", datagram(16), |packet| packet.fragment = MORE_FRAGMENTS, flow(44));
    let later = |fragment| move |packet: &mut Ipv4| packet.fragment = fragment;
    // There is no first fragment with this source.
    let portless = Flow(protocol::UDP, NONE, 44, Some("later_fragment"));
    cases.v4("a middle fragment", datagram(16), later(MORE_FRAGMENTS | 3), portless);
    cases.v4("a last fragment", datagram(16), later(6), portless);
}

/// Protocols with and without ports.
fn ipv4_protocols(cases: &mut Cases) {
    for (what, number) in
        [("SCTP", protocol::SCTP), ("UDP-Lite", protocol::UDP_LITE), ("DCCP", protocol::DCCP)]
    {
        cases.v4(what, (number, ports(SOURCE, TARGET, 12)), plain, Flow(number, PORTS, 36, None));
    }
    for (what, number) in
        [("GRE", protocol::GRE), ("ESP", protocol::ESP), ("an unknown protocol", 253)]
    {
        cases.v4(what, (number, ports(SOURCE, TARGET, 12)), plain, Flow(number, NONE, 36, None));
    }
    let icmp = (protocol::ICMP, vec![3, 1, 0, 0, 0, 0, 0, 0]);
    cases.v4("ICMP", icmp, plain, Flow(protocol::ICMP, NONE, 28, None));
}

/// Transport headers that end with the packet.
fn cut_transports(cases: &mut Cases) {
    let cut = |number, note| Flow(number, NONE, 22, note);
    cases.v4(
        "UDP cut inside its ports",
        (protocol::UDP, vec![1, 2]),
        plain,
        cut(17, Some("transport_truncated")),
    );
    cases.v4(
        "TCP cut inside its ports",
        (protocol::TCP, vec![1, 2]),
        plain,
        cut(6, Some("transport_truncated")),
    );
    let ports_only = (protocol::TCP, ports(SOURCE, TARGET, 0));
    cases.v4(
        "TCP cut behind its ports",
        ports_only,
        plain,
        Flow(6, PORTS, 24, Some("transport_truncated")),
    );
}

/// Wrong versions and lengths, and headers that end with the frame.
fn malformed_ipv4(cases: &mut Cases) {
    let header = |what, cases: &mut Cases, change: fn(&mut Ipv4), reason| {
        cases.v4(what, datagram(10), change, Lost(reason, 38));
    };
    header("version 5", cases, |packet| packet.version_and_length = Some(0x55), "ip_version");
    header(
        "version 6 under IPv4's EtherType",
        cases,
        |packet| packet.version_and_length = Some(0x65),
        "ip_version",
    );
    header(
        "a header of 16 bytes",
        cases,
        |packet| packet.version_and_length = Some(0x44),
        "ip_header_length",
    );
    header(
        "a header of no bytes",
        cases,
        |packet| packet.version_and_length = Some(0x40),
        "ip_header_length",
    );
    header(
        "a length below the header",
        cases,
        |packet| packet.total_length = Some(19),
        "ip_total_length",
    );
    header(
        "a length beyond the frame",
        cases,
        |packet| packet.total_length = Some(39),
        "ip_total_length",
    );
    for (what, kept) in
        [("IPv4 without a byte", 0), ("IPv4 of one byte", 1), ("IPv4 cut at 19 bytes", 19)]
    {
        let case = cases.v4(what, datagram(10), plain, Lost("ip_truncated", kept));
        case.frame.truncate((LINK_HEADER + kept) as usize);
    }
}

fn hop_by_hop(units: u8) -> (u8, Vec<u8>) {
    extension(protocol::HOP_BY_HOP, units)
}

fn destination(units: u8) -> (u8, Vec<u8>) {
    extension(protocol::DESTINATION, units)
}

pub(super) fn ipv6_cases(cases: &mut Cases) {
    ipv6_headers(cases);
    ipv6_fragments(cases);
    ipv6_protocols(cases);
    malformed_ipv6(cases);
}

/// Packets without extension headers, and chains of them.
fn ipv6_headers(cases: &mut Cases) {
    cases.v6("plain UDP over IPv6", datagram(10), vec![], plain, flow(58));
    let segment = (protocol::TCP, tcp(SOURCE, TARGET, 0x10));
    cases.v6("a bare ACK over IPv6", segment, vec![], plain, Flow(protocol::TCP, PORTS, 60, None));
    let chain = vec![
        hop_by_hop(1),
        destination(1),
        extension(protocol::ROUTING, 3),
        fragment(0, true),
        authentication(),
        destination(2),
    ];
    cases.v6(
        "the whole chain of RFC 8200",
        datagram(8),
        chain,
        plain,
        flow(40 + 8 + 8 + 24 + 8 + 24 + 16 + 16),
    );
    cases.v6(
        "options of 128 bytes",
        datagram(8),
        vec![destination(16)],
        plain,
        flow(40 + 128 + 16),
    );
    cases.v6(
        "eight extension headers",
        datagram(8),
        vec![destination(1); 8],
        plain,
        flow(40 + 64 + 16),
    );
    let too_many = Flow(protocol::DESTINATION, NONE, 40 + 72 + 16, Some("extension_limit"));
    cases.v6("nine extension headers", datagram(8), vec![destination(1); 9], plain, too_many);
}

fn ipv6_fragments(cases: &mut Cases) {
    cases.v6("a first fragment over IPv6", datagram(8), vec![fragment(0, true)], plain, flow(64));
    cases.v6("an atomic fragment", datagram(8), vec![fragment(0, false)], plain, flow(64));
    let later = Flow(protocol::UDP, NONE, 64, Some("later_fragment"));
    cases.v6("a middle fragment over IPv6", datagram(8), vec![fragment(4, true)], plain, later);
    cases.v6("a last fragment over IPv6", datagram(8), vec![fragment(8, false)], plain, later);
}

/// Protocols without ports, and headers that end with the packet.
fn ipv6_protocols(cases: &mut Cases) {
    let nothing = (protocol::NO_NEXT, vec![]);
    cases.v6(
        "no next header",
        nothing,
        vec![hop_by_hop(1)],
        plain,
        Flow(protocol::NO_NEXT, NONE, 48, None),
    );
    let icmp = (protocol::ICMPV6, vec![135, 0, 0, 0, 0, 0, 0, 0]);
    cases.v6("ICMPv6", icmp.clone(), vec![], plain, Flow(protocol::ICMPV6, NONE, 48, None));
    cases.v6(
        "ICMPv6 behind options",
        icmp,
        vec![hop_by_hop(1)],
        plain,
        Flow(protocol::ICMPV6, NONE, 56, None),
    );
    cases.v6(
        "ESP over IPv6",
        (protocol::ESP, vec![7; 24]),
        vec![],
        plain,
        Flow(protocol::ESP, NONE, 64, None),
    );
    let chain_cut = Flow(protocol::DESTINATION, NONE, 44, Some("extension_truncated"));
    cases.v6(
        "a chain cut inside a header",
        (protocol::DESTINATION, vec![17, 0, 1, 4]),
        vec![],
        plain,
        chain_cut,
    );
    let ports_cut = Flow(protocol::UDP, NONE, 50, Some("transport_truncated"));
    cases.v6(
        "UDP cut behind options",
        (protocol::UDP, vec![1, 2]),
        vec![hop_by_hop(1)],
        plain,
        ports_cut,
    );
}

/// Wrong versions and lengths, and headers that end with the frame.
fn malformed_ipv6(cases: &mut Cases) {
    cases.v6(
        "version 4 under IPv6's EtherType",
        datagram(2),
        vec![],
        |it| it.version = Some(0x45),
        Lost("ip_version", 50),
    );
    let unsaid = |packet: &mut Ipv6| packet.payload_length = Some(0);
    cases.v6("a payload length of 0", datagram(10), vec![], unsaid, flow(58));
    let nothing = (protocol::NO_NEXT, vec![0; 6]);
    cases.v6(
        "padding behind no next header",
        nothing,
        vec![],
        unsaid,
        Flow(protocol::NO_NEXT, NONE, 40, None),
    );
    let long = |packet: &mut Ipv6| packet.payload_length = Some(11);
    cases.v6("a payload beyond the frame", datagram(2), vec![], long, Lost("ip_total_length", 50));
    for (what, kept) in [("IPv6 of one byte", 1), ("IPv6 cut at 39 bytes", 39)] {
        let case = cases.v6(what, datagram(2), vec![], plain, Lost("ip_truncated", kept));
        case.frame.truncate((LINK_HEADER + kept) as usize);
    }
}

/// The same numbers as 5-tuples of both IP versions.
pub(super) fn twin_cases(cases: &mut Cases) {
    let numbers = Ipv4Addr::new(10, 9, 9, 9);
    let v4 = Ipv4::new(numbers, protocol::UDP, udp(SOURCE, TARGET, 10));
    let v6 = Ipv6 {
        destination: v4.destination.to_ipv6_mapped(),
        ..Ipv6::new(numbers.to_ipv6_mapped(), protocol::UDP, udp(SOURCE, TARGET, 10))
    };
    cases.add("a twin of IPv4", v4.source.into(), v4.frame(), Flow(protocol::UDP, PORTS, 38, None));
    cases.add("a twin of IPv6", v6.source.into(), v6.frame(), Flow(protocol::UDP, PORTS, 58, None));
}

pub(super) fn link_cases(cases: &mut Cases) {
    let packet = |cases: &Cases| {
        let source = Ipv4Addr::new(10, 9, 2, cases.0.len() as u8);
        (IpAddr::from(source), Ipv4::new(source, protocol::UDP, udp(SOURCE, TARGET, 10)).bytes())
    };
    let flow = Flow(protocol::UDP, PORTS, 38, None);
    let mut tag = |what, tags: &[u16]| {
        let (source, bytes) = packet(cases);
        cases.add(what, source, tagged(tags, ether_type::IPV4, &bytes), flow).tagged = true;
    };
    tag("one tag", &[ether_type::VLAN]);
    tag("two tags", &[ether_type::SERVICE_VLAN, ether_type::VLAN]);
    tag("three tags", &[ether_type::SERVICE_VLAN, ether_type::VLAN, ether_type::VLAN]);
    let nobody = IpAddr::from(Ipv4Addr::UNSPECIFIED);
    let four = tagged(&[ether_type::VLAN; 4], ether_type::IPV4, &[0; 20]);
    cases.add("four tags", nobody, four, NonIp("vlan_depth")).tagged = true;
    cases.add("ARP", nobody, ethernet(ether_type::ARP, &[0; 28]), NonIp("arp"));
    cases.add("LLDP", nobody, ethernet(ether_type::LLDP, &[0; 46]), NonIp("other"));
    cases.add("an IEEE 802.3 length", nobody, ethernet(38, &[0xaa; 38]), NonIp("other"));
    cases.add("nothing behind the header", nobody, ethernet(ether_type::LLDP, &[]), NonIp("other"));
    cases
        .add("a frame cut in its tag", nobody, ethernet(ether_type::VLAN, &[0, 1]), NonIp("short"))
        .ingress = Unseen;
}
