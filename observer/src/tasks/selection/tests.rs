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
    let candidate = |interface| Candidate {
        interface,
        named: false,
        trunk: false,
        inward: false,
        settled: true,
    };
    interfaces.iter().map(candidate).collect()
}

/// Names of the observed interfaces.
fn observed<'a>(candidates: &[Candidate<'a>]) -> Vec<&'a str> {
    let chosen = candidates.iter().zip(choose(candidates));
    chosen
        .filter(|(_, choice)| *choice == Choice::Observed)
        .map(|(it, _)| &*it.interface.name)
        .collect()
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
fn a_container_is_counted_at_its_links_to_the_outside() {
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
fn ports_are_counted_and_the_device_that_joins_them_is_not() {
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
    // Rootless containers have a tun device as their only link.
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
    // No other interface has the address.
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
