//! Address messages: the kernel's description of an address of an interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{
    message::{Attributes, u32_at},
    unread::{self, Kind},
};

/// Length of `struct ifaddrmsg`.
pub(super) const HEADER: usize = 8;

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// Address and prefix length.
    pub network: IpNet,
}

impl Address {
    /// Reads the payload of an address message. Returns `None` for families other than IPv4 and
    /// IPv6, and for unreadable messages, which are counted.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let family = payload.first().map(|family| i32::from(*family));
        if family.is_some_and(|family| family != libc::AF_INET && family != libc::AF_INET6) {
            return None;
        }
        let read = || {
            let attributes = Attributes::of(payload.get(HEADER..)?);
            // On a point-to-point link `IFA_ADDRESS` is the address of the peer.
            let local = attributes.clone().get(libc::IFA_LOCAL);
            let address = address(local.or_else(|| attributes.get(libc::IFA_ADDRESS))?)?;
            let network = IpNet::new(address, payload[1]).ok()?;
            Some(Self { index: u32_at(payload, 4)?, network })
        };
        let address = read();
        if address.is_none() {
            unread::count(Kind::Address, payload);
        }
        address
    }
}

/// Reads an IPv4 or IPv6 address.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netlink::message::{Messages, Request};

    fn read(family: i32, prefix: u8, attributes: &[(u16, &[u8])]) -> Option<Address> {
        let header = [family as u8, prefix, 0, 0, 3, 0, 0, 0];
        let request = Request::new(libc::RTM_NEWADDR, 0, &header);
        let request =
            attributes.iter().fold(request, |request, (kind, value)| request.with(*kind, value));
        Address::read(Messages::of(&request.finish(1)).next().unwrap().unwrap().payload)
    }

    #[test]
    fn a_label_of_any_bytes_does_not_hide_an_address() {
        let found = read(libc::AF_INET, 24, &[(3, b"\xff\0"), (libc::IFA_ADDRESS, &[10, 0, 0, 1])]);
        assert_eq!(found, Some(Address { index: 3, network: "10.0.0.1/24".parse().unwrap() }));
        let both = [(libc::IFA_ADDRESS, &[10, 0, 0, 2][..]), (libc::IFA_LOCAL, &[10, 0, 0, 1])];
        assert_eq!(read(libc::AF_INET, 32, &both).unwrap().network.to_string(), "10.0.0.1/32");
        let v6 = Ipv6Addr::LOCALHOST.octets();
        assert_eq!(read(libc::AF_INET6, 128, &[(1, &v6)]).unwrap().network.to_string(), "::1/128");
    }

    #[test]
    fn an_address_that_cannot_be_read_is_counted() {
        let before = unread::unread(Kind::Address);
        assert_eq!(read(libc::AF_INET, 33, &[(libc::IFA_ADDRESS, &[10, 0, 0, 1])]), None);
        assert_eq!(read(libc::AF_INET, 24, &[(libc::IFA_ADDRESS, &[10, 0, 0])]), None);
        assert_eq!(read(libc::AF_INET, 24, &[]), None);
        assert_eq!(Address::read(&[]), None);
        assert_eq!(unread::unread(Kind::Address), before + 4);
        assert_eq!(read(libc::AF_BRIDGE, 0, &[]), None, "another family");
        assert_eq!(unread::unread(Kind::Address), before + 4);
    }
}
