use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use observer_ebpf::abi::{Direction, Family};

/// Number that identifies an interface in the programs and their maps. Never 0. Reused once all
/// flows of the interface are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceNumber(u16);

impl InterfaceNumber {
    /// Wraps a number that the programs use.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number as an integer.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Host policy that dropped packets: the kernel's drop reasons that stand for a policy.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// nftables or iptables.
    Netfilter = 1,
    /// A TC filter on the interface's ingress.
    TcIngress = 2,
    /// A TC filter on the interface's egress.
    TcEgress = 3,
    /// An XDP program.
    Xdp = 4,
    /// A program of the sender's control group.
    CgroupEgress = 5,
    /// A program of the receiver's control group.
    SocketFilter = 6,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::Netfilter,
        Self::TcIngress,
        Self::TcEgress,
        Self::Xdp,
        Self::CgroupEgress,
        Self::SocketFilter,
    ];

    /// Name in the kernel, without the prefix `SKB_DROP_REASON_`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Netfilter => "NETFILTER_DROP",
            Self::TcIngress => "TC_INGRESS",
            Self::TcEgress => "TC_EGRESS",
            Self::Xdp => "XDP",
            Self::CgroupEgress => "BPF_CGROUP_EGRESS",
            Self::SocketFilter => "SOCKET_FILTER",
        }
    }

    /// True if the hook counts packets before they are dropped for this reason.
    pub const fn is_behind_hook(self, direction: Direction) -> bool {
        match self {
            Self::Netfilter => matches!(direction, Direction::Ingress),
            Self::TcIngress | Self::TcEgress | Self::SocketFilter => true,
            Self::Xdp | Self::CgroupEgress => false,
        }
    }
}

/// Action of the host on packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The host let the packets pass.
    Accept,
    /// Host policy dropped the packets.
    Reject(DropReason),
}

impl Action {
    /// Value of the field `action` of VPC Flow Logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Reject(_) => "REJECT",
        }
    }
}

/// Key of a flow: interface, direction, 5-tuple and action.
///
/// Packed into five words, because each drain may hash and compare a million keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    source: [u64; 2],
    destination: [u64; 2],
    /// From the highest bits: source port, destination port, protocol, action, family, direction,
    /// interface.
    rest: u64,
}

const DIRECTION_SHIFT: u32 = 16;
const FAMILY_SHIFT: u32 = 17;
const ACTION_SHIFT: u32 = 18;
const ACTION_BITS: u64 = 0x3f << ACTION_SHIFT;

impl FlowKey {
    /// Creates the key of accepted packets. Addresses are 16 bytes in network order; IPv4 addresses
    /// are IPv4-mapped IPv6. Ports are in host order.
    pub const fn new(
        interface: InterfaceNumber,
        direction: Direction,
        family: Family,
        protocol: u8,
        (source, destination): ([u64; 2], [u64; 2]),
        (source_port, destination_port): (u16, u16),
    ) -> Self {
        let rest = (source_port as u64) << 48
            | (destination_port as u64) << 32
            | (protocol as u64) << 24
            | (family as u64) << FAMILY_SHIFT
            | (direction as u64) << DIRECTION_SHIFT
            | interface.0 as u64;
        Self { source, destination, rest }
    }

    /// The key as five words, which [`from_words`](Self::from_words) turns back.
    pub const fn words(&self) -> [u64; 5] {
        let Self { source: [a, b], destination: [c, d], rest } = *self;
        [a, b, c, d, rest]
    }

    /// The key of these words.
    pub const fn from_words([a, b, c, d, rest]: [u64; 5]) -> Self {
        Self { source: [a, b], destination: [c, d], rest }
    }

    /// The same flow with another action.
    #[must_use]
    pub const fn with_action(self, action: Action) -> Self {
        let action = match action {
            Action::Accept => 0,
            Action::Reject(reason) => reason as u64,
        };
        Self { rest: self.rest & !ACTION_BITS | action << ACTION_SHIFT, ..self }
    }

    /// Flow of the opposite direction, with the same action.
    #[must_use]
    pub const fn reversed(self) -> Self {
        const PORTS_SHIFT: u32 = 32;
        let ports = (self.rest >> PORTS_SHIFT) as u32;
        let rest = self.rest & !(0xffff_ffff << PORTS_SHIFT)
            | (ports.rotate_left(16) as u64) << PORTS_SHIFT;
        Self {
            source: self.destination,
            destination: self.source,
            rest: rest ^ 1 << DIRECTION_SHIFT,
        }
    }

    /// Action of the host on the packets.
    pub fn action(&self) -> Action {
        let action = (self.rest & ACTION_BITS) >> ACTION_SHIFT;
        let reason = DropReason::ALL.into_iter().find(|reason| *reason as u64 == action);
        reason.map_or(Action::Accept, Action::Reject)
    }

    /// True if the packets were also counted as accepted, before they were dropped.
    pub fn is_rejected_behind_hook(&self) -> bool {
        matches!(self.action(), Action::Reject(reason) if reason.is_behind_hook(self.direction()))
    }

    /// Address family of the packets.
    pub const fn family(&self) -> Family {
        if self.rest >> FAMILY_SHIFT & 1 == 0 { Family::V4 } else { Family::V6 }
    }

    /// Source address.
    pub fn source(&self) -> IpAddr {
        address(self.family(), self.source)
    }

    /// Destination address.
    pub fn destination(&self) -> IpAddr {
        address(self.family(), self.destination)
    }

    /// Source port; 0 if the protocol has no ports.
    pub const fn source_port(&self) -> u16 {
        (self.rest >> 48) as u16
    }

    /// Destination port; 0 if the protocol has no ports.
    pub const fn destination_port(&self) -> u16 {
        (self.rest >> 32) as u16
    }

    /// IANA protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 24) as u8
    }

    /// Direction of the packets: towards the task or from it.
    pub const fn direction(&self) -> Direction {
        if self.rest >> DIRECTION_SHIFT & 1 == 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// Number of the interface that counted the packets.
    pub const fn interface(&self) -> InterfaceNumber {
        InterfaceNumber(self.rest as u16)
    }
}

/// Decodes an address of 16 bytes in network order. An IPv4 address is in the last four bytes.
pub fn address(family: Family, words: [u64; 2]) -> IpAddr {
    let bits = u128::from(u64::from_be(words[0])) << 64 | u128::from(u64::from_be(words[1]));
    match family {
        Family::V4 => Ipv4Addr::from_bits(bits as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(bits).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERFACE: InterfaceNumber = InterfaceNumber::new(513);

    fn words(address: &str) -> [u64; 2] {
        let bytes = address.parse::<Ipv6Addr>().unwrap().octets();
        let word = |at| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        [word(0), word(8)]
    }

    #[test]
    fn parts_come_back() {
        let ends = (words("2001:db8::1:2"), words("::1"));
        let key = FlowKey::new(INTERFACE, Direction::Egress, Family::V6, 17, ends, (65535, 53));
        assert_eq!(key.source(), "2001:db8::1:2".parse::<IpAddr>().unwrap());
        assert_eq!(key.destination(), "::1".parse::<IpAddr>().unwrap());
        assert_eq!((key.source_port(), key.destination_port()), (65535, 53));
        assert_eq!(
            (key.family(), key.protocol(), key.direction()),
            (Family::V6, 17, Direction::Egress)
        );
        assert_eq!(key.interface(), INTERFACE);
        assert_eq!(key.action(), Action::Accept);
        let answer = key.reversed();
        assert_eq!((answer.source(), answer.destination()), (key.destination(), key.source()));
        assert_eq!((answer.source_port(), answer.destination_port()), (53, 65535));
        assert_eq!((answer.family(), answer.protocol()), (Family::V6, 17));
        assert_eq!(answer.direction(), Direction::Ingress);
        assert_eq!(answer.reversed(), key);
        for reason in DropReason::ALL {
            let rejected = key.with_action(Action::Reject(reason));
            assert_ne!(rejected, key);
            assert_eq!(rejected.action(), Action::Reject(reason));
            assert_eq!((rejected.family(), rejected.protocol()), (Family::V6, 17));
            assert_eq!(
                (rejected.direction(), rejected.interface()),
                (Direction::Egress, INTERFACE)
            );
            assert_eq!(rejected.with_action(Action::Accept), key);
        }
    }

    #[test]
    fn ipv4_and_ipv6_with_the_same_numbers_are_two_flows() {
        let mapped = observer_ebpf::abi::FlowKey::mapped([10, 0, 0, 1]);
        assert_eq!(mapped, words("::ffff:10.0.0.1"));
        let key = |family| {
            FlowKey::new(INTERFACE, Direction::Ingress, family, 17, (mapped, mapped), (1, 2))
        };
        assert_ne!(key(Family::V4), key(Family::V6));
        assert_eq!(key(Family::V4).source(), "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(key(Family::V6).source(), "::ffff:10.0.0.1".parse::<IpAddr>().unwrap());
        assert!(key(Family::V6).reversed().destination().is_ipv6());
    }
}
