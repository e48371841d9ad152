use std::net::{IpAddr, Ipv6Addr};

pub use observer_ebpf::abi::Direction;

/// The number under which an interface is known to the programs; never 0, given anew once its flows are recorded.
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

/// What makes two packets one flow: interface, direction and 5-tuple.
///
/// Kept in five words, because a million of them are hashed and compared in every drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    source: [u64; 2],
    destination: [u64; 2],
    /// Source port, destination port, protocol, direction and interface, from the top.
    rest: u64,
}

impl FlowKey {
    /// A key of its parts: addresses are 16 bytes in network order, IPv4 mapped; ports are numbers.
    pub const fn new(
        interface: InterfaceNumber,
        direction: Direction,
        protocol: u8,
        (source, destination): ([u64; 2], [u64; 2]),
        (source_port, destination_port): (u16, u16),
    ) -> Self {
        let rest = (source_port as u64) << 48
            | (destination_port as u64) << 32
            | (protocol as u64) << 24
            | (direction as u64) << 16
            | interface.0 as u64;
        Self { source, destination, rest }
    }

    /// Where the packets come from.
    pub fn source(&self) -> IpAddr {
        address(self.source)
    }

    /// Where they go.
    pub fn destination(&self) -> IpAddr {
        address(self.destination)
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
        if self.rest >> 16 & 1 == 0 { Direction::Ingress } else { Direction::Egress }
    }

    /// The interface that saw them.
    pub const fn interface(&self) -> InterfaceNumber {
        InterfaceNumber(self.rest as u16)
    }
}

fn address(words: [u64; 2]) -> IpAddr {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_ne_bytes());
    bytes[8..].copy_from_slice(&words[1].to_ne_bytes());
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back() {
        let v6: Ipv6Addr = "2001:db8::1:2".parse().unwrap();
        let bytes = v6.octets();
        let words = [
            u64::from_ne_bytes(bytes[..8].try_into().unwrap()),
            u64::from_ne_bytes(bytes[8..].try_into().unwrap()),
        ];
        let key = FlowKey::new(
            InterfaceNumber::new(513),
            Direction::Egress,
            17,
            (observer_ebpf::abi::FlowKey::mapped([10, 0, 0, 1]), words),
            (65535, 53),
        );
        assert_eq!(key.source(), "10.0.0.1".parse::<IpAddr>().unwrap());
        assert_eq!(key.destination(), IpAddr::V6(v6));
        assert_eq!((key.source_port(), key.destination_port()), (65535, 53));
        assert_eq!((key.protocol(), key.direction()), (17, Direction::Egress));
        assert_eq!(key.interface().get(), 513);
    }
}
