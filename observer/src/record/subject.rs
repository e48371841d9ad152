use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use ipnet::IpNet;

use crate::{
    flow::{Direction, FlowKey},
    tasks::{Attribute, Identity, Mac, Observed, one_word, printable},
};

/// Whose a record is: an interface and all that is known of it, with the texts that every record repeats.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// ENI id; name and MAC address where none is known, or one of them; empty where nothing is known.
    pub interface_id: Box<str>,
    /// The interface's name; empty where it has none.
    pub interface_name: Box<str>,
    /// Hardware address; empty where it has none.
    pub mac: Box<str>,
    /// Inode of its namespace; 0 where it has none.
    pub netns: u64,
    /// Of an ENI, its primary private IPv4 address.
    pub primary: Option<Ipv4Addr>,
    /// Of an ENI, the blocks of its subnet.
    pub subnets: Vec<IpNet>,
    /// What the sources say.
    pub identity: Arc<Identity>,
    /// Of an interface of the host, the same with what is known of those whose flows pass it, by container.
    pub tenants: BTreeMap<Box<str>, Self>,
}

impl Subject {
    /// The subject of an observed interface.
    pub fn new(observed: &Observed) -> Self {
        let interface = &observed.interface;
        let named = Self::named(&interface.name, interface.mac, Arc::clone(&observed.identity));
        let (mut primary, mut subnets) = (None, Vec::new());
        if named.identity.get(Attribute::InterfaceId).is_some() {
            subnets =
                interface.addresses.iter().filter(|network| is_routed(network.addr())).copied().collect();
            primary = subnets.iter().find_map(|network| match network {
                IpNet::V4(network) => Some(network.addr()),
                IpNet::V6(_) => None,
            });
        }
        let own = Self { netns: interface.netns.inode, primary, subnets, ..named };
        let tenants = observed.tenants.iter().map(|(container, identity)| {
            (container.clone(), Self { identity: Arc::clone(identity), ..own.clone() })
        });
        Self { tenants: tenants.collect(), ..own.clone() }
    }

    /// The subject of an interface of which no more is known: one of a capture.
    pub fn named(name: &str, mac: Option<Mac>, identity: Arc<Identity>) -> Self {
        let mac = mac.map(|mac| mac.to_string()).unwrap_or_default();
        let eni = identity.get(Attribute::InterfaceId);
        Self {
            interface_id: eni.map_or_else(|| name_and_mac(name, &mac), Into::into),
            interface_name: printable(name.into()),
            mac: mac.into(),
            identity,
            ..Self::default()
        }
    }

    /// The address that AWS logs for an end of a flow: at the ENI's own end, whatever is in the packets, its primary
    /// one (AWS, "Flow log records", on `srcaddr` and `dstaddr`).
    pub(super) fn address(&self, key: &FlowKey, own_end_in: Direction, in_packets: IpAddr) -> IpAddr {
        match self.primary {
            Some(primary) if in_packets.is_ipv4() && key.direction() == own_end_in => primary.into(),
            _ => in_packets,
        }
    }
}

/// The id of an interface that is no ENI.
fn name_and_mac(name: &str, mac: &str) -> Box<str> {
    // Every reader takes ASCII.
    let name = one_word(name.into()).replace(|c: char| !c.is_ascii_graphic(), "_");
    match (&*name, mac) {
        ("" | "-", mac) => mac.into(),
        (name, "") => name.into(),
        (name, mac) => format!("{name}@{mac}").into(),
    }
}

/// Whether an address is one of the VPC's, rather than of the link alone.
const fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}
