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

/// An interface and its identity, with the texts that every record repeats.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// ENI ID, or else name and MAC address, as far as they are known; empty if nothing is known.
    pub interface_id: Box<str>,
    /// Name of the interface; empty if unknown.
    pub interface_name: Box<str>,
    /// MAC address; empty if unknown.
    pub mac: Box<str>,
    /// Inode of the network namespace; 0 if unknown.
    pub netns: u64,
    /// Primary private IPv4 address of an ENI.
    pub primary: Option<Ipv4Addr>,
    /// CIDR blocks of an ENI's subnet.
    pub subnets: Vec<IpNet>,
    /// Attributes from the sources.
    pub identity: Arc<Identity>,
    /// For an interface of the host: the subjects of containers with flows on it, by container ID.
    pub tenants: BTreeMap<Box<str>, Self>,
}

impl Subject {
    /// Creates the subject of an observed interface.
    pub fn new(observed: &Observed) -> Self {
        let interface = &observed.interface;
        let named = Self::named(&interface.name, interface.mac, Arc::clone(&observed.identity));
        let (mut primary, mut subnets) = (None, Vec::new());
        if named.identity.get(Attribute::InterfaceId).is_some() {
            subnets = interface
                .addresses
                .iter()
                .filter(|network| is_routed(network.addr()))
                .copied()
                .collect();
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

    /// Creates the subject of an interface in a capture.
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

    /// Address that AWS logs for one end of a flow: at the ENI's end always the primary address,
    /// otherwise the one in the packets (AWS, "Flow log records", on `srcaddr` and `dstaddr`).
    pub(super) fn address(
        &self,
        key: &FlowKey,
        own_end_in: Direction,
        in_packets: IpAddr,
    ) -> IpAddr {
        match self.primary {
            Some(primary) if in_packets.is_ipv4() && key.direction() == own_end_in => {
                primary.into()
            }
            _ => in_packets,
        }
    }
}

/// ID of an interface that is not an ENI.
fn name_and_mac(name: &str, mac: &str) -> Box<str> {
    // ASCII, which every reader accepts.
    let name = one_word(name.into()).replace(|c: char| !c.is_ascii_graphic(), "_");
    match (&*name, mac) {
        ("" | "-", mac) => mac.into(),
        (name, "") => name.into(),
        (name, mac) => format!("{name}@{mac}").into(),
    }
}

/// True for addresses that are valid beyond the link.
const fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !address.is_link_local() && !address.is_loopback(),
        IpAddr::V6(address) => !address.is_unicast_link_local() && !address.is_loopback(),
    }
}
