//! Which interfaces are observed.
//!
//! Each packet of a task is to be counted at one place: where it leaves the task's namespace. A device that stands on
//! others there (bridge, bond, VLAN, tunnel) carries their packets once more, and is left out; so is one that leads to a
//! namespace within, which has an interface of its own. On the host that leaves the devices that are its own: what leads
//! into observed namespaces would count twice. Where these rules would leave no way out at all, the device that is left
//! as the only one is observed.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use super::{Interface, LinkKind, Mac, OtherDevice};

/// The task's end of the link to the ECS agent (credentials and metadata); its traffic never reaches the ENI.
const AGENT_LINK: &str = "ecs-eth0";

/// An interface of a namespace, and what is known of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a device")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) interface: &'a Interface,
    /// A source names a task that has its MAC address, or its ENI.
    pub(super) named: bool,
    /// It carries the traffic of branch ENIs, which are observed themselves.
    pub(super) trunk: bool,
    /// It leads to a namespace that can be left through this one only.
    pub(super) inward: bool,
    /// It is there for so long that no other interface is still on its way into the namespace.
    pub(super) settled: bool,
}

/// The decision about an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is observed.
    Observed,
    /// It is a task's link to the ECS agent.
    AgentLink,
    /// It is not observed.
    LeftOut(Reason),
}

/// The reason why an interface is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Its packets stay in the namespace.
    Loopback,
    /// It carries the traffic of branch ENIs.
    Trunk,
    /// It is the ENI of a task that has stopped.
    Parked,
    /// The host's end of a link, or a device of the host that is none of its own.
    HostSide,
    /// It leads to a namespace within.
    Inward,
    /// Its packets pass another device of the namespace.
    Stacked,
}

impl Reason {
    /// As `observer tasks` shows it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback: its packets stay in the namespace",
            Self::Trunk => "a trunk: its packets are counted at the branch ENIs",
            Self::Parked => "the ENI of a task that has stopped",
            Self::HostSide => "the host's side of a link: its packets are counted in the other namespace",
            Self::Inward => {
                "a link to a namespace within: its packets are counted there, and where they leave this one"
            }
            Self::Stacked => "its packets are counted at the device that carries them",
        }
    }
}

/// Decides for all interfaces of a namespace.
pub(super) fn choose(candidates: &[Candidate<'_>]) -> Vec<Choice> {
    let mut choices: Vec<_> = candidates.iter().map(|candidate| by_place(candidate, candidates)).collect();
    let by_name: Vec<_> =
        (0..candidates.len()).filter(|at| is_chosen_by_name(*at, candidates, &choices)).collect();
    for at in by_name {
        choices[at] = Choice::Observed;
    }
    if !choices.contains(&Choice::Observed) {
        for (choice, candidate) in choices.iter_mut().zip(candidates) {
            if is_last_resort(candidate, *choice, candidates) {
                *choice = Choice::Observed;
            }
        }
    }
    choices
}

/// The choice for an interface by its kind and by what it leads to.
fn by_place(candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Choice {
    let interface = candidate.interface;
    let left_out = Choice::LeftOut;
    match interface.kind {
        LinkKind::Loopback => left_out(Reason::Loopback),
        _ if interface.on_host && candidate.trunk => left_out(Reason::Trunk),
        _ if interface.on_host && is_parked(interface) => left_out(Reason::Parked),
        _ if is_agent_link(interface) => Choice::AgentLink,
        // A virtual function below a synthetic card: the card sees all that passes it.
        LinkKind::Physical if controller(interface, all).is_some_and(|it| it.kind == LinkKind::Physical) => {
            left_out(Reason::Stacked)
        }
        LinkKind::Physical => Choice::Observed,
        _ if interface.on_host => left_out(Reason::HostSide),
        LinkKind::Inner => left_out(Reason::Stacked),
        _ if below(interface, all).is_some() => left_out(Reason::Stacked),
        _ if candidate.inward => left_out(Reason::Inward),
        LinkKind::Veth | LinkKind::Derived => Choice::Observed,
        LinkKind::Tunnel if matches!(interface.other, Some(OtherDevice::In(_))) => Choice::Observed,
        LinkKind::Tunnel => left_out(Reason::Stacked),
    }
}

/// Whether a source's word makes it observed. A bridge takes the MAC address of its first port, a VLAN that of its
/// parent: of several devices with one address it is the one below.
fn is_chosen_by_name(at: usize, all: &[Candidate<'_>], choices: &[Choice]) -> bool {
    let candidate = &all[at];
    let interface = candidate.interface;
    let by_rule = matches!(
        choices[at],
        Choice::Observed | Choice::LeftOut(Reason::Loopback | Reason::Trunk | Reason::Parked)
    );
    if !candidate.named || by_rule {
        return false;
    }
    let same = |mac: Option<Mac>| mac.is_some() && mac == interface.mac;
    let others = || all.iter().zip(choices).filter(|(it, _)| it.interface.ifindex != interface.ifindex);
    let mut of_address = others().filter(|(it, _)| same(it.interface.mac));
    let is_below = |other: &Interface| {
        other.controller == Some(interface.ifindex)
            || interface.other == Some(OtherDevice::Here(other.ifindex))
    };
    !of_address.any(|(it, choice)| *choice == Choice::Observed || is_below(it.interface))
}

/// Whether it is to be observed in a namespace that no other device leads out of.
fn is_last_resort(candidate: &Candidate<'_>, choice: Choice, all: &[Candidate<'_>]) -> bool {
    let interface = candidate.interface;
    if !candidate.settled || !interface.up || candidate.inward {
        return false;
    }
    let leads_somewhere = match (choice, interface.kind) {
        (Choice::AgentLink, _) => true,
        (Choice::LeftOut(Reason::HostSide), LinkKind::Veth | LinkKind::Derived) => {
            matches!(interface.other, Some(OtherDevice::In(_)))
        }
        (Choice::LeftOut(Reason::HostSide | Reason::Stacked), LinkKind::Tunnel) => {
            interface.controller.is_none()
        }
        _ => false,
    };
    leads_somewhere && below(interface, all).is_none()
}

/// The bridge, bond or VRF that an interface is a port of.
fn controller<'a>(interface: &Interface, all: &[Candidate<'a>]) -> Option<&'a Interface> {
    let index = interface.controller?;
    all.iter().map(|it| it.interface).find(|it| it.ifindex == index)
}

/// The device of the same namespace that an interface stands on.
fn below<'a>(interface: &Interface, all: &[Candidate<'a>]) -> Option<&'a Interface> {
    let Some(OtherDevice::Here(index)) = interface.other else { return None };
    all.iter().map(|it| it.interface).find(|it| it.ifindex == index)
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

    const OUTSIDE: Option<OtherDevice> = Some(OtherDevice::In(0));

    fn interface(ifindex: u32, name: &str, kind: LinkKind) -> Interface {
        let other = if matches!(kind, LinkKind::Veth | LinkKind::Derived) { OUTSIDE } else { None };
        Interface { ifindex, name: name.into(), kind, other, ..Interface::example() }
    }

    fn on_host(interface: Interface) -> Interface {
        Interface { on_host: true, ..interface }
    }

    fn port(of: u32, interface: Interface) -> Interface {
        Interface { controller: Some(of), ..interface }
    }

    fn over(below: u32, interface: Interface) -> Interface {
        Interface { other: Some(OtherDevice::Here(below)), ..interface }
    }

    fn with_mac(mac: &str, interface: Interface) -> Interface {
        Interface { mac: mac.parse().ok(), ..interface }
    }

    fn candidates(interfaces: &[Interface]) -> Vec<Candidate<'_>> {
        let candidate =
            |interface| Candidate { interface, named: false, trunk: false, inward: false, settled: true };
        interfaces.iter().map(candidate).collect()
    }

    /// Names of those that are observed.
    fn observed<'a>(candidates: &[Candidate<'a>]) -> Vec<&'a str> {
        let chosen = candidates.iter().zip(choose(candidates));
        chosen.filter(|(_, choice)| *choice == Choice::Observed).map(|(it, _)| &*it.interface.name).collect()
    }

    fn observed_of(interfaces: &[Interface]) -> Vec<&str> {
        observed(&candidates(interfaces))
    }

    #[test]
    fn the_host_counts_its_own_devices_only() {
        use LinkKind::{Derived, Inner, Loopback, Physical, Tunnel, Veth};
        let all = [Loopback, Physical, Veth, Derived, Inner, Tunnel]
            .map(|kind| on_host(interface(2, "eth0", kind)));
        let choices: Vec<_> = choose(&candidates(&all));
        let left_out = Choice::LeftOut(Reason::HostSide);
        let loopback = Choice::LeftOut(Reason::Loopback);
        assert_eq!(choices, [loopback, Choice::Observed, left_out, left_out, left_out, left_out]);
    }

    #[test]
    fn a_container_counts_what_leads_out_of_it() {
        use LinkKind::{Derived, Inner, Loopback, Physical, Tunnel, Veth};
        let kinds = [Loopback, Physical, Veth, Derived, Inner, Tunnel];
        let names = ["loopback", "physical", "veth", "derived", "inner", "tunnel"];
        let all: Vec<_> = kinds
            .iter()
            .zip(names)
            .zip(1..)
            .map(|((kind, name), index)| interface(index, name, *kind))
            .collect();
        assert_eq!(observed_of(&all), ["physical", "veth", "derived"]);
    }

    #[test]
    fn a_port_leads_out_and_what_joins_the_ports_carries_nothing_of_its_own() {
        for kind in [LinkKind::Physical, LinkKind::Veth, LinkKind::Derived] {
            let all = [
                port(9, interface(2, "eth0", kind)),
                interface(9, "br0", LinkKind::Inner),
                port(9, interface(3, "tap0", LinkKind::Tunnel)),
                over(9, interface(4, "br0.7", LinkKind::Derived)),
            ];
            assert_eq!(observed_of(&all), ["eth0"], "{kind:?}");
        }
        let bond = [
            port(9, interface(2, "eth0", LinkKind::Veth)),
            port(9, interface(3, "eth1", LinkKind::Veth)),
            interface(9, "bond0", LinkKind::Inner),
            over(9, interface(4, "bond0.7", LinkKind::Derived)),
        ];
        assert_eq!(observed_of(&bond), ["eth0", "eth1"]);
    }

    #[test]
    fn a_link_to_a_namespace_within_is_counted_there() {
        let all = [
            interface(2, "eth0", LinkKind::Veth),
            port(9, interface(3, "inner0", LinkKind::Veth)),
            interface(9, "docker0", LinkKind::Inner),
        ];
        let mut candidates = candidates(&all);
        candidates[1].inward = true;
        assert_eq!(observed(&candidates), ["eth0"]);
    }

    #[test]
    fn a_pair_and_a_vlan_within_a_namespace_do_not_count_twice() {
        let all = [
            interface(2, "eth0", LinkKind::Veth),
            over(2, interface(3, "eth0.7", LinkKind::Derived)),
            over(5, interface(4, "a", LinkKind::Veth)),
            over(4, interface(5, "b", LinkKind::Veth)),
        ];
        assert_eq!(observed_of(&all), ["eth0"]);
    }

    #[test]
    fn a_tunnel_that_was_made_elsewhere_leads_out() {
        let elsewhere = Interface { other: OUTSIDE, ..interface(3, "vxlan0", LinkKind::Tunnel) };
        let here = interface(4, "wg0", LinkKind::Tunnel);
        assert_eq!(
            observed_of(&[interface(2, "eth0", LinkKind::Veth), elsewhere.clone(), here.clone()]),
            ["eth0", "vxlan0"]
        );
        // Alone it is the only way out: rootless containers have a tun device and nothing else.
        assert_eq!(observed_of(std::slice::from_ref(&here)), ["wg0"]);
        assert_eq!(observed_of(&[Interface { up: false, ..here.clone() }]), [""; 0]);
        assert_eq!(observed_of(&[interface(5, "dummy0", LinkKind::Inner)]), [""; 0]);
        let mut young = candidates(std::slice::from_ref(&here));
        young[0].settled = false;
        assert_eq!(observed(&young), [""; 0], "another may be on its way");
    }

    #[test]
    fn a_host_that_is_a_container_itself_is_left_by_its_pair() {
        let all = [
            on_host(interface(1, "lo", LinkKind::Loopback)),
            on_host(interface(2, "eth0", LinkKind::Veth)),
            on_host(interface(3, "docker0", LinkKind::Inner)),
            on_host(port(3, interface(4, "veth1", LinkKind::Veth))),
        ];
        let mut candidates = candidates(&all);
        candidates[3].inward = true;
        assert_eq!(observed(&candidates), ["eth0"]);
    }

    #[test]
    fn a_card_below_a_card_is_counted_once() {
        let all = [
            on_host(interface(2, "eth0", LinkKind::Physical)),
            on_host(port(2, interface(3, "enP1", LinkKind::Physical))),
        ];
        assert_eq!(observed_of(&all), ["eth0"]);
    }

    #[test]
    fn a_named_address_is_counted_at_the_lowest_device_that_has_it() {
        const MAC: &str = "0a:00:00:00:00:01";
        let eth0 = || with_mac(MAC, interface(2, "eth0", LinkKind::Veth));
        let bridge = with_mac(MAC, interface(9, "br0", LinkKind::Inner));
        let vlan = with_mac(MAC, over(2, interface(3, "eth0.7", LinkKind::Derived)));
        let all = [port(9, eth0()), bridge.clone(), vlan];
        let mut named = candidates(&all);
        for it in &mut named {
            it.named = true;
        }
        assert_eq!(observed(&named), ["eth0"]);
        // Nothing else has it.
        for (alone, chosen) in [(bridge, true), (interface(1, "lo", LinkKind::Loopback), false)] {
            let mut named = candidates(std::slice::from_ref(&alone));
            named[0].named = true;
            assert_eq!(!observed(&named).is_empty(), chosen, "{alone:?}");
        }
        let parent = on_host(interface(2, "ens5", LinkKind::Physical));
        let branch = on_host(with_mac(MAC, over(2, interface(7, "ens5.101", LinkKind::Derived))));
        let all = [parent, branch];
        let mut named = candidates(&all);
        named[1].named = true;
        assert_eq!(observed(&named), ["ens5", "ens5.101"]);
    }

    #[test]
    fn the_agents_link_is_left_out_beside_another_and_is_observed_alone() {
        let agent = interface(3, "ecs-eth0", LinkKind::Veth);
        let all = [interface(2, "eth0", LinkKind::Veth), agent.clone()];
        assert_eq!(choose(&candidates(&all)), [Choice::Observed, Choice::AgentLink]);
        let mut named = candidates(&all);
        named[1].named = true;
        assert_eq!(observed(&named), ["eth0", "ecs-eth0"]);
        let mut alone = candidates(std::slice::from_ref(&agent));
        assert_eq!(observed(&alone), ["ecs-eth0"], "a name alone hides no way out");
        alone[0].settled = false;
        assert_eq!(choose(&alone), [Choice::AgentLink]);
    }

    #[test]
    fn a_link_to_the_agent_is_known_by_its_address_too() {
        let with = |addresses: &[&str]| Interface {
            addresses: addresses
                .iter()
                .map(|address| IpNet::from(address.parse::<IpAddr>().unwrap()))
                .collect(),
            ..interface(3, "eth1", LinkKind::Veth)
        };
        let of = |addresses: &[&str]| {
            choose(&candidates(&[interface(2, "eth0", LinkKind::Veth), with(addresses)]))[1]
        };
        assert_eq!(of(&["169.254.172.2", "fe80::1"]), Choice::AgentLink);
        for addresses in [&[][..], &["10.0.0.1"], &["169.254.172.2", "10.0.0.1"], &["fe80::1"]] {
            assert_eq!(of(addresses), Choice::Observed, "{addresses:?}");
        }
    }

    #[test]
    fn an_eni_on_its_way_back_and_a_trunk_are_let_go() {
        let of = |name, named, trunk| {
            let it = on_host(with_mac("0a:1b:2c:3d:4e:5f", interface(2, name, LinkKind::Physical)));
            let candidate = Candidate { interface: &it, named, trunk, inward: false, settled: true };
            choose(&[candidate])[0]
        };
        assert_eq!(of("ecsa1b2c", true, false), Choice::LeftOut(Reason::Parked));
        assert_eq!(of("ecs0a1b2c", true, false), Choice::Observed);
        assert_eq!(of("ens6", false, false), Choice::Observed);
        assert_eq!(of("ens6", false, true), Choice::LeftOut(Reason::Trunk));
    }
}
