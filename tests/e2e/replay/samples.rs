//! Packets of small captures.

use observer_tests::{capture::Packet, tally::Direction, traffic::frames};

use super::{BEGIN, SECOND};

pub(super) const LOCAL: [&str; 2] = ["--local", "10.9.0.0/24"];

/// A packet of 58 bytes from 10.9.0.1, or to it.
pub(super) fn bytes(direction: Direction) -> Vec<u8> {
    let mut packet =
        frames::Ipv4::new([10, 9, 0, 1].into(), frames::protocol::UDP, frames::udp(7, 8, 30))
            .bytes();
    if direction == Direction::Ingress {
        let (source, destination) = (packet[12..16].to_vec(), packet[16..20].to_vec());
        packet[12..16].copy_from_slice(&destination);
        packet[16..20].copy_from_slice(&source);
    }
    packet
}

pub(super) fn ipv6() -> Vec<u8> {
    frames::Ipv6::new(
        "2001:db8::1".parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED),
        17,
        frames::udp(7, 8, 30),
    )
    .bytes()
}

pub(super) fn frame(direction: Direction) -> Vec<u8> {
    frames::ethernet(frames::ether_type::IPV4, &bytes(direction))
}

pub(super) fn at(ms: u64, bytes: Vec<u8>) -> Packet {
    Packet::new(BEGIN * SECOND + ms * 1_000_000, bytes)
}
