use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use observer_ebpf::abi::{Direction, Family};

/// The number under which an interface is known to the programs; never 0, given anew once its flows
/// are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InterfaceNumber(u16);

impl InterfaceNumber {
    /// A number that the programs carry.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Which policy of the host dropped packets: the kernel's reasons that stand for one.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// nftables or iptables.
    Netfilter = 1,
    /// A TC filter on the interface's ingress.
    TcIngress = 2,
    /// A TC filter on its egress.
    TcEgress = 3,
    /// An XDP program.
    Xdp = 4,
    /// A program of the sender's control group.
    CgroupEgress = 5,
    /// A program of the receiver's control group.
    SocketFilter = 6,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Netfilter,
        Self::TcIngress,
        Self::TcEgress,
        Self::Xdp,
        Self::CgroupEgress,
        Self::SocketFilter,
    ];

    /// The kernel's name, without `SKB_DROP_REASON_`.
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

    /// Whether the hook has counted the packets before they were dropped.
    pub const fn is_behind_hook(self, direction: Direction) -> bool {
        match self {
            Self::Netfilter => matches!(direction, Direction::Ingress),
            Self::TcIngress | Self::TcEgress | Self::SocketFilter => true,
            Self::Xdp | Self::CgroupEgress => false,
        }
    }
}

/// What the host did with packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It let them pass.
    Accept,
    /// Its policy dropped them.
    Reject(DropReason),
}

impl Action {
    /// The text of the `action` field of VPC Flow Logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accept => "ACCEPT",
            Self::Reject(_) => "REJECT",
        }
    }
}

/// What makes two packets one flow: interface, direction, 5-tuple and what was done with them.
///
/// Kept in five words, because a million of them are hashed and compared in every drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    source: [u64; 2],
    destination: [u64; 2],
    /// Source port, destination port, protocol, action, family, direction and interface, from the
    /// top.
    rest: u64,
}

const DIRECTION_SHIFT: u32 = 16;
const FAMILY_SHIFT: u32 = 17;
const ACTION_SHIFT: u32 = 18;
const ACTION_BITS: u64 = 0x3f << ACTION_SHIFT;

impl FlowKey {
    /// A key of accepted packets, from its parts. Addresses are 16 bytes in network order, those of
    /// IPv4 as IPv4-mapped IPv6; ports are numbers.
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

    /// The same flow, with which something else was done.
    #[must_use]
    pub const fn with_action(self, action: Action) -> Self {
        let action = match action {
            Action::Accept => 0,
            Action::Reject(reason) => reason as u64,
        };
        Self { rest: self.rest & !ACTION_BITS | action << ACTION_SHIFT, ..self }
    }

    /// The flow of the packets that answer, of whatever action these are.
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

    /// What was done with the packets.
    pub fn action(&self) -> Action {
        let action = (self.rest & ACTION_BITS) >> ACTION_SHIFT;
        let reason = DropReason::ALL.into_iter().find(|reason| *reason as u64 == action);
        reason.map_or(Action::Accept, Action::Reject)
    }

    /// Whether these packets were counted as accepted before they were dropped.
    pub fn is_rejected_behind_hook(&self) -> bool {
        matches!(self.action(), Action::Reject(reason) if reason.is_behind_hook(self.direction()))
    }

    /// The family of the packets.
    pub const fn family(&self) -> Family {
        if self.rest >> FAMILY_SHIFT & 1 == 0 { Family::V4 } else { Family::V6 }
    }

    /// Where the packets come from.
    pub fn source(&self) -> IpAddr {
        address(self.family(), self.source)
    }

    /// Where they go.
    pub fn destination(&self) -> IpAddr {
        address(self.family(), self.destination)
    }

    /// Source port; 0 for protocols without.
    pub const fn source_port(&self) -> u16 {
        (self.rest >> 48) as u16
    }

    /// Destination port; 0 for protocols without.
    pub const fn destination_port(&self) -> u16 {
        (self.rest >> 32) as u16
    }

    /// IANA protocol number.
    pub const fn protocol(&self) -> u8 {
        (self.rest >> 24) as u8
    }

    /// Towards the task or from it.
    pub const fn direction(&self) -> Direction {
        if self.rest >> DIRECTION_SHIFT & 1 == 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// The interface that saw them.
    pub const fn interface(&self) -> InterfaceNumber {
        InterfaceNumber(self.rest as u16)
    }
}

/// The address in 16 bytes in network order, of which an IPv4 address takes the last four.
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
