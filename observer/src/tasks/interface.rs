//! Interfaces as the kernel describes them.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

use crate::linux::{
    netlink::{Address, Link, NetnsId},
    netns::Netns,
};

/// MAC address. Displays as EC2 writes it: lower case, with colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac([u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, byte) in self.0.iter().enumerate() {
            let separator = if number == 0 { "" } else { ":" };
            write!(f, "{separator}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no MAC address")]
pub struct ParseMacError(Box<str>);

impl FromStr for Mac {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let error = || ParseMacError(text.into());
        let mut bytes = [0; 6];
        let mut parts = text.trim().split([':', '-']);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(error)?;
        }
        if parts.next().is_some() {
            return Err(error());
        }
        Ok(Self(bytes))
    }
}

impl Mac {
    /// Bytes in the order of transmission.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

/// Kind of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback interface.
    Loopback,
    /// A network card, real or virtual. The kernel names no kind for it.
    Physical,
    /// One end of a pair of virtual devices.
    Veth,
    /// A device on top of another one that carries a part of its traffic into a namespace: VLAN,
    /// macvlan, ipvlan.
    Derived,
    /// A device that joins others or has no link: bridge, bond, VRF, dummy.
    Inner,
    /// Any other device: its frames travel inside the packets of another device, or through a
    /// process.
    Tunnel,
}

impl LinkKind {
    fn of(link: &Link) -> Self {
        match link.kind.as_deref() {
            _ if link.layer == libc::ARPHRD_LOOPBACK => Self::Loopback,
            None if matches!(link.layer, libc::ARPHRD_ETHER | ARPHRD_RAWIP | libc::ARPHRD_NONE) => {
                Self::Physical
            }
            Some("veth" | "netkit") => Self::Veth,
            Some("vlan" | "macvlan" | "ipvlan") => Self::Derived,
            Some(
                "bridge" | "bond" | "team" | "vrf" | "dummy" | "ifb" | "nlmon" | "hsr" | "batadv"
                | "openvswitch",
            ) => Self::Inner,
            _ => Self::Tunnel,
        }
    }
}

/// `ARPHRD_RAWIP`
const ARPHRD_RAWIP: u16 = 519;

/// Location of the other end of a pair, or of the device below a derived one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherDevice {
    /// The same namespace, at this index.
    Here(u32),
    /// The namespace with this number.
    In(NetnsId),
}

/// An interface, from one listing of its namespace.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a device")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Network namespace.
    pub netns: Netns,
    /// True if that is the daemon's own namespace.
    pub on_host: bool,
    /// Index within the namespace.
    pub ifindex: u32,
    /// Current name; bytes that are not UTF-8 are written as `\xNN`.
    pub name: Box<str>,
    /// MAC address, if it has one.
    pub mac: Option<Mac>,
    /// Kind of device.
    pub kind: LinkKind,
    /// True if its frames begin with an Ethernet header.
    pub ethernet: bool,
    /// True if it is up (`IFF_UP`).
    pub up: bool,
    /// True if frames may wait in a queueing discipline before they are sent.
    pub queued: bool,
    /// Index of the bridge, bond or VRF that it is a port of, if any.
    pub controller: Option<u32>,
    /// The device at the other end of the pair, or below this one.
    pub other: Option<OtherDevice>,
    /// Addresses with their networks: IPv4 first, each family in the kernel's order.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// Builds an interface from its link and the addresses of its namespace.
    pub(super) fn new(netns: &Netns, on_host: bool, link: &Link, addresses: &[Address]) -> Self {
        let mut found: Vec<IpNet> = addresses
            .iter()
            .filter(|address| address.index == link.index)
            .map(|address| address.network)
            .collect();
        found.sort_by_key(|network| network.addr().is_ipv6());
        Self {
            netns: netns.clone(),
            on_host,
            ifindex: link.index,
            name: link.name.clone(),
            mac: mac_of(link),
            kind: LinkKind::of(link),
            ethernet: link.layer == libc::ARPHRD_ETHER,
            up: link.flags & libc::IFF_UP as u32 != 0,
            queued: link.qdisc.as_deref() != Some("noqueue"),
            controller: link.controller,
            other: match (link.other_netns, link.other) {
                (Some(netns), _) => Some(OtherDevice::In(netns)),
                (None, Some(index)) if index != link.index => Some(OtherDevice::Here(index)),
                _ => None,
            },
            addresses: found,
        }
    }
}

/// The MAC address of a link: the permanent one if there is one, because a guest may change the
/// current one.
pub fn mac_of(link: &Link) -> Option<Mac> {
    [&link.permanent_address, &link.address].into_iter().flatten().find_map(|bytes| six(bytes))
}

fn six(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().filter(|bytes| *bytes != [0; 6]).map(Mac)
}

#[cfg(test)]
impl Interface {
    /// The container's end of a pair.
    pub(crate) fn example() -> Self {
        Self {
            netns: Netns { inode: 1, path: "/proc/1/ns/net".into() },
            on_host: false,
            ifindex: 2,
            name: "eth0".into(),
            mac: None,
            kind: LinkKind::Veth,
            ethernet: true,
            up: true,
            queued: false,
            controller: None,
            other: Some(OtherDevice::In(0)),
            addresses: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_in_every_spelling_and_written_in_one() {
        for text in ["0A:1b:2c:3D:4e:5f", "0a-1b-2c-3d-4e-5f", " a:1b:2c:3d:4e:5f "] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "0a:1b:2c:3d:4e:5f");
        }
        for text in
            ["", "0a:1b:2c:3d:4e", "0a:1b:2c:3d:4e:5f:60", "zz:1b:2c:3d:4e:5f", "0a1b2c3d4e5f"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
