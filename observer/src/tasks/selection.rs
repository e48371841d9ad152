//! Which interfaces are observed.
//!
//! Each packet of a task is to be counted at one place: at the task's own interface. On the host that leaves the
//! devices that are its own; what leads into observed namespaces, or carries others' traffic, would count twice.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use super::{Interface, LinkKind};

/// The task's end of the link to the ECS agent (credentials and metadata); its traffic never reaches the ENI.
const AGENT_LINK: &str = "ecs-eth0";

/// What becomes of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is observed.
    Observed,
    /// It is a task's link to the ECS agent.
    AgentLink,
    /// It is of no interest, or its traffic is counted elsewhere.
    LeftOut,
}

/// Whether an interface is to be observed; `named` says that a source names a task that has its MAC, or its ENI;
/// `trunk`, that it carries the traffic of branch ENIs, which are observed themselves.
pub(super) fn choose(interface: &Interface, named: bool, trunk: bool) -> Choice {
    let observed = |it| if it { Choice::Observed } else { Choice::LeftOut };
    match interface.kind {
        LinkKind::Loopback => Choice::LeftOut,
        _ if interface.on_host && (trunk || is_parked(interface)) => Choice::LeftOut,
        _ if named => Choice::Observed,
        _ if is_agent_link(interface) => Choice::AgentLink,
        LinkKind::Physical => Choice::Observed,
        LinkKind::Veth | LinkKind::Derived => observed(!interface.on_host && !interface.enslaved),
        LinkKind::Other => Choice::LeftOut,
    }
}

/// Newer platforms give the link to the agent another name, with an address out of the same network.
fn is_agent_link(interface: &Interface) -> bool {
    let of_agent = |address: IpAddr| match address {
        IpAddr::V4(address) => matches!(address.octets(), [169, 254, 172..=175, _]),
        IpAddr::V6(_) => false,
    };
    let addresses = interface.addresses.iter().map(IpNet::addr);
    let mut ipv4 = addresses.filter(IpAddr::is_ipv4).peekable();
    &*interface.name == AGENT_LINK
        || interface.kind == LinkKind::Veth
            && !interface.on_host
            && ipv4.peek().is_some()
            && ipv4.all(of_agent)
}

/// Whether it is the ENI of a task that has stopped. On its way back to EC2 the agent names it after the first three
/// bytes of its MAC address, without leading zeros.
fn is_parked(interface: &Interface) -> bool {
    let Some(mac) = interface.mac else { return false };
    let mut name = String::from("ecs");
    for byte in &mac.bytes()[..3] {
        let _ = write!(name, "{byte:x}");
    }
    *name == *interface.name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

    fn is_observed(interface: &Interface, named: bool) -> bool {
        choose(interface, named, false) == Choice::Observed
    }

    fn interface(name: &str, kind: LinkKind, on_host: bool, enslaved: bool) -> Interface {
        Interface {
            netns: Netns { inode: 1, path: "/proc/1/ns/net".into() },
            on_host,
            ifindex: 2,
            name: name.into(),
            mac: None,
            kind,
            ethernet: true,
            enslaved,
            addresses: Vec::new(),
        }
    }

    #[test]
    fn the_host_counts_its_own_devices_only() {
        for (kind, observed) in [
            (LinkKind::Loopback, false),
            (LinkKind::Physical, true),
            (LinkKind::Veth, false),
            (LinkKind::Derived, false),
            (LinkKind::Other, false),
        ] {
            assert_eq!(is_observed(&interface("eth0", kind, true, false), false), observed, "{kind:?}");
        }
    }

    #[test]
    fn a_container_counts_what_leads_out_of_it() {
        for (kind, observed) in [
            (LinkKind::Loopback, false),
            (LinkKind::Physical, true),
            (LinkKind::Veth, true),
            (LinkKind::Derived, true),
            (LinkKind::Other, false),
        ] {
            assert_eq!(is_observed(&interface("eth0", kind, false, false), false), observed, "{kind:?}");
        }
        assert!(!is_observed(&interface("veth1", LinkKind::Veth, false, true), false), "a bridge within");
    }

    #[test]
    fn the_agents_link_is_left_out_and_a_known_mac_is_always_in() {
        assert!(!is_observed(&interface("ecs-eth0", LinkKind::Veth, false, false), false));
        assert!(is_observed(&interface("anything", LinkKind::Other, true, false), true));
        assert!(!is_observed(&interface("lo", LinkKind::Loopback, false, false), true));
    }

    #[test]
    fn a_link_to_the_agent_is_known_by_its_address_too() {
        let with = |addresses: &[&str]| Interface {
            addresses: addresses
                .iter()
                .map(|address| IpNet::from(address.parse::<IpAddr>().unwrap()))
                .collect(),
            ..interface("eth0", LinkKind::Veth, false, false)
        };
        assert_eq!(choose(&with(&["169.254.172.2", "fe80::1"]), false, false), Choice::AgentLink);
        for addresses in [&[][..], &["10.0.0.1"], &["169.254.172.2", "10.0.0.1"], &["fe80::1"]] {
            assert_eq!(choose(&with(addresses), false, false), Choice::Observed, "{addresses:?}");
        }
    }

    #[test]
    fn an_eni_on_its_way_back_and_a_trunk_are_let_go() {
        let on_host = |name| Interface {
            mac: "0a:1b:2c:3d:4e:5f".parse().ok(),
            ..interface(name, LinkKind::Physical, true, false)
        };
        assert_eq!(choose(&on_host("ecsa1b2c"), true, false), Choice::LeftOut);
        assert_eq!(choose(&on_host("ecs0a1b2c"), true, false), Choice::Observed);
        assert_eq!(choose(&on_host("ens6"), false, false), Choice::Observed);
        assert_eq!(choose(&on_host("ens6"), false, true), Choice::LeftOut);
    }
}
