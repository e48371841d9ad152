//! Selection of the interfaces to observe.
//!
//! Each packet of a task is counted once: where it leaves the task's namespace. Devices on top of
//! others (bridge, bond, VLAN, tunnel) carry the same packets again and are left out. Links to an
//! inner namespace are left out, because the inner namespace has an interface of its own. On the
//! host only its own devices are observed: links into observed namespaces would count packets
//! twice. If these rules select no interface of a namespace, the only remaining link out of it is
//! observed.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;

use super::{Interface, LinkKind, Mac, OtherDevice};

/// The task's end of the link to the ECS agent (credentials and metadata); its traffic never
/// reaches the ENI.
const AGENT_LINK: &str = "ecs-eth0";

/// An interface of a namespace, with the properties that selection depends on.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about a device")]
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) interface: &'a Interface,
    /// A source lists an ENI for it.
    pub(super) named: bool,
    /// It carries the traffic of branch ENIs, which are observed themselves.
    pub(super) trunk: bool,
    /// It leads to an inner namespace, whose only way out is through this one.
    pub(super) inward: bool,
    /// It has existed for so long that no other interface is expected to appear in the namespace.
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
    /// It is the host's end of a link, or a virtual device of the host.
    HostSide,
    /// It leads to an inner namespace.
    Inward,
    /// Its packets pass another device of the namespace.
    Stacked,
}

impl Reason {
    /// Text for `observer tasks`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback: its packets stay in the namespace",
            Self::Trunk => "a trunk: its packets are counted at the branch ENIs",
            Self::Parked => "the ENI of a task that has stopped",
            Self::HostSide => {
                "the host's side of a link: its packets are counted in the other namespace"
            }
            Self::Inward => {
                "a link to an inner namespace: its packets are counted there, and where they leave this one"
            }
            Self::Stacked => "its packets are counted at the device that carries them",
        }
    }
}

/// Decides about all interfaces of a namespace.
pub(super) fn choose(candidates: &[Candidate<'_>]) -> Vec<Choice> {
    let mut choices: Vec<_> =
        candidates.iter().map(|candidate| by_place(candidate, candidates)).collect();
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

/// Decides about an interface by its kind and its link.
fn by_place(candidate: &Candidate<'_>, all: &[Candidate<'_>]) -> Choice {
    let interface = candidate.interface;
    let left_out = Choice::LeftOut;
    match interface.kind {
        LinkKind::Loopback => left_out(Reason::Loopback),
        _ if interface.on_host && candidate.trunk => left_out(Reason::Trunk),
        _ if interface.on_host && is_parked(interface) => left_out(Reason::Parked),
        _ if is_agent_link(interface) => Choice::AgentLink,
        // A virtual function below a synthetic card: the card sees all of its packets.
        LinkKind::Physical
            if controller(interface, all).is_some_and(|it| it.kind == LinkKind::Physical) =>
        {
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

/// True if an interface is observed only because a source lists its MAC address. A bridge takes the
/// MAC address of its first port, and a VLAN that of its parent; of several devices with one
/// address the lowest is observed.
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
    let others =
        || all.iter().zip(choices).filter(|(it, _)| it.interface.ifindex != interface.ifindex);
    let mut of_address = others().filter(|(it, _)| same(it.interface.mac));
    let is_below = |other: &Interface| {
        other.controller == Some(interface.ifindex)
            || interface.other == Some(OtherDevice::Here(other.ifindex))
    };
    !of_address.any(|(it, choice)| *choice == Choice::Observed || is_below(it.interface))
}

/// True if an interface is observed in a namespace that has no other link to the outside.
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

/// The device below an interface in the same namespace.
fn below<'a>(interface: &Interface, all: &[Candidate<'a>]) -> Option<&'a Interface> {
    let Some(OtherDevice::Here(index)) = interface.other else { return None };
    all.iter().map(|it| it.interface).find(|it| it.ifindex == index)
}

/// True for a task's link to the ECS agent. Newer platforms give it another name, with an address
/// in the same network.
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

/// True for the ENI of a task that has stopped. Until EC2 detaches it, the agent names it after the
/// first three bytes of its MAC address, without leading zeros.
fn is_parked(interface: &Interface) -> bool {
    let Some(mac) = interface.mac else { return false };
    let mut name = String::from("ecs");
    for byte in &mac.bytes()[..3] {
        let _ = write!(name, "{byte:x}");
    }
    *name == *interface.name
}

#[cfg(test)]
mod tests;
