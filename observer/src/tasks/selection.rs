//! Which interfaces are observed.
//!
//! Each packet of a task is to be counted at one place: at the task's own interface. On the host that leaves the
//! devices that are its own; what leads into observed namespaces, or carries others' traffic, would count twice.

use super::{Interface, LinkKind};

/// The task's end of the link to the ECS agent (credentials and metadata); its traffic never reaches the ENI.
const AGENT_LINK: &str = "ecs-eth0";

/// Whether an interface is to be observed; `known` says that a source knows its MAC.
pub(super) fn is_observed(interface: &Interface, known: bool) -> bool {
    match interface.kind {
        LinkKind::Loopback => false,
        _ if known => true,
        _ if &*interface.name == AGENT_LINK => false,
        LinkKind::Physical => true,
        LinkKind::Veth | LinkKind::Derived => !interface.on_host && !interface.enslaved,
        LinkKind::Other => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

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
}
