//! Reasons why the parser may know more than tshark shows.

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
