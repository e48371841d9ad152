/// Protocols that sums tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 1.
    Icmp,
    /// 58.
    Icmpv6,
    /// 132.
    Sctp,
    /// All others.
    Other,
}

impl Protocol {
    /// All of them, in the order of their numbers here.
    pub const ALL: [Self; 6] =
        [Self::Tcp, Self::Udp, Self::Icmp, Self::Icmpv6, Self::Sctp, Self::Other];

    /// The class of an IANA protocol number.
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

    /// Value of the label `protocol`.
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
