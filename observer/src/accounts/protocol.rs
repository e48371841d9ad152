/// Protocols with separate sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// IANA protocol number 6.
    Tcp,
    /// IANA protocol number 17.
    Udp,
    /// IANA protocol number 1.
    Icmp,
    /// IANA protocol number 58.
    Icmpv6,
    /// IANA protocol number 132.
    Sctp,
    /// All other protocols.
    Other,
}

impl Protocol {
    /// All protocols, in the order of their discriminants.
    pub const ALL: [Self; 6] =
        [Self::Tcp, Self::Udp, Self::Icmp, Self::Icmpv6, Self::Sctp, Self::Other];

    /// Class of an IANA protocol number.
    pub const fn of(number: u8) -> Self {
        match number {
            1 => Self::Icmp,
            6 => Self::Tcp,
            17 => Self::Udp,
            58 => Self::Icmpv6,
            132 => Self::Sctp,
            _ => Self::Other,
        }
    }

    /// Value of the metric label `protocol`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Sctp => "sctp",
            Self::Other => "other",
        }
    }
}
