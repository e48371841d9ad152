//! Traffic that AWS never logs ("Flow log limitations"), and traffic that never leaves the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::{Context, Subject};
use crate::flow::FlowKey;

/// True if AWS does not log this flow.
pub(super) fn is_unlogged(context: &Context, subject: &Subject, key: &FlowKey) -> bool {
    is_dhcp(key)
        || [key.source(), key.destination()].into_iter().any(|address| {
            is_service_of_the_link(address)
                || context.vpc.first().is_some_and(|block| nth(block, RESOLVER) == Some(address))
                || subject.subnets.iter().any(|subnet| nth(subnet, ROUTER) == Some(address))
        })
}

/// Number of the VPC router's address within a subnet.
const ROUTER: u32 = 1;
/// Number of the DNS server's address within the primary block of the VPC.
const RESOLVER: u32 = 2;

/// The address with this number in an IPv4 block.
fn nth(block: &IpNet, number: u32) -> Option<IpAddr> {
    match block {
        IpNet::V4(block) => {
            Some(Ipv4Addr::from_bits(block.network().to_bits().checked_add(number)?).into())
        }
        IpNet::V6(_) => None,
    }
}

fn is_dhcp(key: &FlowKey) -> bool {
    const UDP: u8 = 17;
    let ports = (key.source_port(), key.destination_port());
    let (client, server) = if key.source().is_ipv4() { (68, 67) } else { (546, 547) };
    key.protocol() == UDP && (ports == (client, server) || ports == (server, client))
}

/// True for link-local services: Amazon's DNS (253), time (123), metadata (254) and licence servers
/// (250, 251), the ECS agent's credentials and its bridge, and loopback.
fn is_service_of_the_link(address: IpAddr) -> bool {
    const BRIDGE: u32 = 22;
    match address {
        IpAddr::V4(address) => match address.octets() {
            [169, 254, 169, 123 | 250 | 251 | 253 | 254] | [169, 254, 170, 2] | [127, ..] => true,
            _ => {
                let bridge = Ipv4Addr::new(169, 254, 172, 0).to_bits();
                address.to_bits() >> (32 - BRIDGE) == bridge >> (32 - BRIDGE)
            }
        },
        IpAddr::V6(address) => {
            address == Ipv6Addr::LOCALHOST
                || matches!(
                    address.segments(),
                    [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x123 | 0x250 | 0x251 | 0x253 | 0x254]
                )
        }
    }
}
