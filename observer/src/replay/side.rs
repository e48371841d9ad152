//! Direction of packets, as seen from the interface.

use std::net::IpAddr;

use ipnet::IpNet;
use observer_ebpf::{
    abi::Direction,
    packet::{Packet, Skip},
};

use super::link::Frame;
use crate::{flow::address, tasks::Mac};

/// Addresses on the interface's side.
#[derive(Debug)]
pub(super) struct Sides {
    mac: Option<Mac>,
    local: Vec<IpNet>,
}

/// Direction of a packet, or the reason why it is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The direction is known.
    Known(Direction),
    /// Both ends are local, and the capture gives no direction.
    BothLocal,
    /// Neither end is local.
    Neither,
    /// No address is local, because none was given, and the capture gives no direction.
    Undetermined,
}

impl Sides {
    /// Takes the interface's MAC address and the networks on its side.
    pub(super) fn new(mac: Option<Mac>, local: &[IpNet]) -> Self {
        Self { mac, local: local.to_vec() }
    }

    /// The direction of a frame. Rules, in order: the MAC address, the networks, the direction in
    /// the capture, and that a packet to a multicast or broadcast address was received. The
    /// direction of a frame without a valid IP header does not matter, because it belongs to no
    /// flow.
    pub(super) fn of(&self, frame: &Frame<'_>, packet: &Result<Packet, Skip>) -> Side {
        if let (Some(mac), Some((destination, source))) = (self.mac, frame.macs) {
            if Mac::from(source) == mac {
                return Side::Known(Direction::Egress);
            }
            if Mac::from(destination) == mac {
                return Side::Known(Direction::Ingress);
            }
        }
        let Ok(packet) = packet else {
            return Side::Known(frame.direction.unwrap_or(Direction::Ingress));
        };
        let [source, destination] =
            [packet.source, packet.destination].map(|words| address(packet.family, words));
        match (self.is_local(source), self.is_local(destination), frame.direction) {
            (true, false, _) => Side::Known(Direction::Egress),
            (false, true, _) => Side::Known(Direction::Ingress),
            (_, _, Some(direction)) => Side::Known(direction),
            (true, true, None) => Side::BothLocal,
            (false, false, None) if self.mac.is_none() && self.local.is_empty() => {
                Side::Undetermined
            }
            (false, false, None) if frame.is_for_group() || is_group(destination) => {
                Side::Known(Direction::Ingress)
            }
            (false, false, None) => Side::Neither,
        }
    }

    fn is_local(&self, address: IpAddr) -> bool {
        self.local.iter().any(|network| network.contains(&address))
    }
}

impl Frame<'_> {
    fn is_for_group(&self) -> bool {
        self.macs.is_some_and(|(destination, _)| destination[0] & 1 != 0)
    }
}

/// A multicast address, or the broadcast address of every network.
fn is_group(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast(),
    }
}

#[cfg(test)]
mod tests {
    use observer_ebpf::packet::{Link, Offload, parse};

    use super::*;

    const US: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 3];
    const GROUP: [u8; 6] = [1, 0, 0x5e, 0, 0, 0xfb];

    struct Case {
        destination: [u8; 6],
        source: [u8; 6],
        from: &'static str,
        to: &'static str,
        given: Option<Direction>,
        ethernet: bool,
    }

    const PLAIN: Case = Case {
        destination: OTHER,
        source: PEER,
        from: "192.0.2.1",
        to: "198.51.100.1",
        given: None,
        ethernet: true,
    };

    impl Case {
        fn side(&self, sides: &Sides) -> Side {
            let mut bytes = [self.destination, self.source].concat();
            match (self.from.parse().unwrap(), self.to.parse().unwrap()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    bytes.extend([8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 59, 0, 0]);
                    bytes.extend([from.octets(), to.octets()].concat());
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 59, 64]);
                    bytes.extend([from.octets(), to.octets()].concat());
                }
                _ => panic!("two families"),
            }
            let len = bytes.len() as u32;
            let frame = observer_ebpf::packet::Frame {
                len,
                link: Link::Ethernet,
                tags_beside: 0,
                offload: Offload::default(),
            };
            let packet = parse(&bytes[..], frame);
            assert!(packet.is_ok());
            let macs = self.ethernet.then_some((self.destination, self.source));
            sides.of(&Frame { bytes: &bytes, len, direction: self.given, macs }, &packet)
        }
    }

    fn networks(texts: &[&str]) -> Sides {
        Sides::new(None, &texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>())
    }

    const IN: Side = Side::Known(Direction::Ingress);
    const OUT: Side = Side::Known(Direction::Egress);

    #[test]
    fn networks_give_the_direction_by_the_local_end() {
        let sides = networks(&["10.1.0.0/16", "2001:db8:1::/48", "192.168.0.7/32"]);
        let side = |from, to| Case { from, to, ..PLAIN }.side(&sides);
        assert_eq!(side("10.1.2.3", "10.2.0.1"), OUT);
        assert_eq!(side("10.2.0.1", "10.1.2.3"), IN);
        assert_eq!(side("192.168.0.7", "192.168.0.8"), OUT);
        assert_eq!(side("2001:db8:1::5", "2001:db8:2::5"), OUT);
        assert_eq!(side("2001:db8:2::5", "2001:db8:1::5"), IN);
        assert_eq!(side("10.1.2.3", "10.1.2.4"), Side::BothLocal);
        assert_eq!(side("10.2.2.3", "10.3.2.4"), Side::Neither);
        assert_eq!(networks(&["0.0.0.0/0"]).of_v4("1.2.3.4"), Side::BothLocal);
        assert_eq!(networks(&["::/0"]).of_v4("1.2.3.4"), Side::Neither);
    }

    impl Sides {
        fn of_v4(&self, from: &'static str) -> Side {
            Case { from, ..PLAIN }.side(self)
        }
    }

    #[test]
    fn multicast_is_ingress_unless_the_source_is_local() {
        let sides = networks(&["10.1.0.0/16", "2001:db8:1::/48"]);
        let side = |from, to| Case { from, to, ethernet: false, ..PLAIN }.side(&sides);
        assert_eq!(side("10.2.0.1", "224.0.0.251"), IN);
        assert_eq!(side("0.0.0.0", "255.255.255.255"), IN);
        assert_eq!(side("fe80::1", "ff02::fb"), IN);
        assert_eq!(side("10.1.0.1", "224.0.0.251"), OUT);
        let broadcast = Case { destination: GROUP, to: "10.2.255.255", ..PLAIN };
        assert_eq!(broadcast.side(&sides), IN);
    }

    #[test]
    fn the_mac_address_has_the_highest_priority_and_the_capture_the_lowest() {
        let mac = Sides::new(Some(US.into()), &[]);
        assert_eq!(Case { source: US, ..PLAIN }.side(&mac), OUT);
        assert_eq!(Case { destination: US, ..PLAIN }.side(&mac), IN);
        assert_eq!(Case { destination: GROUP, ..PLAIN }.side(&mac), IN);
        assert_eq!(PLAIN.side(&mac), Side::Neither);
        let both = Sides::new(Some(US.into()), &["192.0.2.0/24".parse().unwrap()]);
        assert_eq!(
            Case { destination: US, ..PLAIN }.side(&both),
            IN,
            "the network says the opposite"
        );
        assert_eq!(PLAIN.side(&both), OUT, "the MAC address says nothing");
        let with_direction = |direction| Case { given: Some(direction), ..PLAIN };
        assert_eq!(with_direction(Direction::Ingress).side(&mac), IN);
        assert_eq!(with_direction(Direction::Ingress).side(&both), OUT);
        assert_eq!(
            with_direction(Direction::Egress).side(&networks(&["0.0.0.0/0"])),
            OUT,
            "both ends are local"
        );
    }

    #[test]
    fn without_rules_the_capture_decides() {
        let sides = Sides::new(None, &[]);
        assert_eq!(PLAIN.side(&sides), Side::Undetermined);
        assert_eq!(Case { given: Some(Direction::Egress), ..PLAIN }.side(&sides), OUT);
    }
}
