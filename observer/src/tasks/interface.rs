//! What the kernel says of an interface.

use std::{fmt, str::FromStr};

use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressMessage},
    link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage},
};

use crate::netns::Netns;

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

/// What an interface is, as far as it matters here.
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
    /// Anything else: bridges, tunnels, dummies.
    Other,
}

/// An interface, as one dump of its namespace shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Where it is.
    pub netns: Netns,
    /// Whether that is the daemon's own namespace.
    pub on_host: bool,
    /// Index within the namespace.
    pub ifindex: u32,
    /// Its name at the moment.
    pub name: Box<str>,
    /// Hardware address.
    pub mac: Option<Mac>,
    /// What it is.
    pub kind: LinkKind,
    /// Whether frames on it begin with an Ethernet header.
    pub ethernet: bool,
    /// Whether it is a port of a bridge or a bond.
    pub enslaved: bool,
    /// Its addresses with their networks, in the order in which the kernel lists them, IPv4 first.
    pub addresses: Vec<IpNet>,
}

impl Interface {
    /// Reads a link; `None` where it is of no use: without a name.
    pub(super) fn new(
        netns: &Netns,
        on_host: bool,
        link: &LinkMessage,
        addresses: &[AddressMessage],
    ) -> Option<Self> {
        let mut name = None;
        let (mut mac, mut permanent, mut enslaved) = (None, None, false);
        let mut info_kind = None;
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.as_str()),
                LinkAttribute::Address(bytes) => mac = six(bytes),
                LinkAttribute::PermAddress(bytes) => permanent = six(bytes),
                LinkAttribute::Controller(_) => enslaved = true,
                LinkAttribute::LinkInfo(infos) => {
                    info_kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        let layer = link.header.link_layer_type;
        let kind = match info_kind {
            _ if layer == LinkLayerType::Loopback => LinkKind::Loopback,
            None if matches!(layer, LinkLayerType::Ether | LinkLayerType::Rawip | LinkLayerType::None) => {
                LinkKind::Physical
            }
            Some(InfoKind::Veth | InfoKind::Netkit) => LinkKind::Veth,
            Some(InfoKind::Vlan | InfoKind::MacVlan | InfoKind::IpVlan) => LinkKind::Derived,
            _ => LinkKind::Other,
        };
        let mut found: Vec<IpNet> = addresses
            .iter()
            .filter(|address| address.header.index == link.header.index)
            .filter_map(address_of)
            .collect();
        found.sort_by_key(|network| network.addr().is_ipv6());
        Some(Self {
            netns: netns.clone(),
            on_host,
            ifindex: link.header.index,
            name: name?.into(),
            // A device's own address survives what a guest sets over it.
            mac: permanent.or(mac),
            kind,
            ethernet: layer == LinkLayerType::Ether,
            enslaved,
            addresses: found,
        })
    }
}

fn six(bytes: &[u8]) -> Option<Mac> {
    <[u8; 6]>::try_from(bytes).ok().filter(|bytes| *bytes != [0; 6]).map(Mac)
}

fn address_of(message: &AddressMessage) -> Option<IpNet> {
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the address is the peer's and this one is ours.
            AddressAttribute::Local(local) => {
                address = Some(*local);
                break;
            }
            AddressAttribute::Address(other) => address = Some(*other),
            _ => {}
        }
    }
    IpNet::new(address?, message.header.prefix_len).ok()
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
