//! What the kernel says of an interface.

use std::{fmt, str::FromStr};

use ipnet::IpNet;

use crate::{
    netlink::{Address, Link, NetnsId},
    netns::Netns,
};

/// A hardware address, written as EC2 writes it: lower case, with colons.
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

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut bytes = [0; 6];
        let mut parts = text.trim().split([':', '-']);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .and_then(|part| u8::from_str_radix(part, 16).ok())
                .ok_or_else(|| format!("{text:?} is no MAC address"))?;
        }
        if parts.next().is_some() {
            return Err(format!("{text:?} is no MAC address"));
        }
        Ok(Self(bytes))
    }
}

impl Mac {
    /// Its bytes, in the order of transmission.
    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl From<[u8; 6]> for Mac {
    fn from(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }
}

/// The kinds of interfaces that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkKind {
    /// The loopback.
    Loopback,
    /// A device of its own: a network card, virtual or not. The kernel names no kind for it.
    Physical,
    /// One end of a pair.
    Veth,
    /// A device that carries a part of another one's traffic into a namespace of its own: VLAN, macvlan, ipvlan.
    Derived,
    /// A device that joins others, or leads nowhere: bridge, bond, VRF, dummy.
    Inner,
    /// Any other: its frames travel inside the packets of another device, or through a process.
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

/// The device at the other end of a pair, or below a device that is derived from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherDevice {
    /// In the same namespace, with this index.
    Here(u32),
    /// In the namespace with this number.
    In(NetnsId),
}

/// An interface, as one dump of its namespace shows it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a device")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Where it is.
    pub netns: Netns,
    /// Whether that is the daemon's own namespace.
    pub on_host: bool,
    /// Index within the namespace.
    pub ifindex: u32,
    /// Its name at the moment, as text: bytes that are not UTF-8 as `\xNN`.
    pub name: Box<str>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// What it is.
    pub kind: LinkKind,
    /// Whether frames on it begin with an Ethernet header.
    pub ethernet: bool,
    /// Whether it is up.
    pub up: bool,
    /// Whether frames may wait in a queueing discipline before they are sent.
    pub queued: bool,
    /// Index of the bridge, bond or VRF that it is a port of.
    pub controller: Option<u32>,
    /// The device that its frames come from and go to.
    pub other: Option<OtherDevice>,
    /// Its addresses with their networks, in the order in which the kernel lists them, IPv4 first.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// What a link and the addresses of its namespace say.
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

/// The hardware address of a link. A device's own address survives what a guest sets over it.
pub fn mac_of(link: &Link) -> Option<Mac> {
    [&link.permanent_address, &link.address].into_iter().flatten().find_map(|bytes| six(bytes))
}

fn six(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().filter(|bytes| *bytes != [0; 6]).map(Mac)
}

#[cfg(test)]
impl Interface {
    /// The end of a pair in a container's namespace.
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
        for text in ["", "0a:1b:2c:3d:4e", "0a:1b:2c:3d:4e:5f:60", "zz:1b:2c:3d:4e:5f", "0a1b2c3d4e5f"] {
            assert!(text.parse::<Mac>().is_err(), "{text:?}");
        }
    }
}
