//! Comparison of the interfaces to observe with those that are observed.

use std::collections::{BTreeMap, BTreeSet};

use crate::tasks::{InterfaceKey, Observed};

/// Difference between desired and actual interfaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan<'a> {
    /// Interfaces to attach programs to.
    pub(super) attach: Vec<&'a Observed>,
    /// Observed interfaces with changed data.
    pub(super) update: Vec<&'a Observed>,
    /// Interfaces to detach programs from.
    pub(super) detach: Vec<InterfaceKey>,
}

/// Compares desired with actual interfaces.
pub(super) fn plan<'a, T>(
    desired: &'a [Observed],
    actual: &BTreeMap<InterfaceKey, T>,
    observed: impl Fn(&T) -> &Observed,
) -> Plan<'a> {
    let mut plan = Plan::default();
    for wanted in desired {
        match actual.get(&wanted.key) {
            None => plan.attach.push(wanted),
            Some(known) if observed(known) != wanted => plan.update.push(wanted),
            Some(_) => {}
        }
    }
    let wanted: BTreeSet<_> = desired.iter().map(|wanted| wanted.key).collect();
    plan.detach = actual.keys().filter(|key| !wanted.contains(key)).copied().collect();
    plan
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        linux::netns::Netns,
        tasks::{Attribute, Fact, Identity, Interface, Source},
    };

    fn observed(netns: u64, birth: u64, ifindex: u32, service: &str) -> Observed {
        let fact =
            Fact { attribute: Attribute::ServiceName, value: service.into(), source: Source::File };
        Observed {
            key: InterfaceKey { netns, birth, ifindex },
            interface: Interface {
                netns: Netns { inode: netns, path: "/proc/1/ns/net".into() },
                ifindex,
                ..Interface::example()
            },
            appeared: None,
            identity: Arc::new(Identity::default().merge([fact]).0),
            tenants: Arc::default(),
            awaits_identity: false,
            older: false,
        }
    }

    #[test]
    fn what_is_new_changed_and_gone_is_told_apart() {
        let actual: BTreeMap<_, _> =
            [observed(1, 1, 2, "a"), observed(2, 2, 2, "b"), observed(3, 3, 2, "c")]
                .into_iter()
                .map(|observed| (observed.key, observed))
                .collect();
        let desired =
            [observed(1, 1, 2, "a"), observed(2, 2, 2, "renamed"), observed(4, 4, 2, "d")];
        let plan = plan(&desired, &actual, |observed| observed);
        assert_eq!(plan.attach, [&desired[2]]);
        assert_eq!(plan.update, [&desired[1]]);
        assert_eq!(plan.detach, [actual.keys().nth(2).copied().unwrap()]);
    }

    #[test]
    fn a_namespace_whose_inode_is_used_again_is_another_one() {
        let old = observed(1, 1, 2, "a");
        let actual = BTreeMap::from([(old.key, old)]);
        let desired = [observed(1, 2, 2, "a")];
        let plan = plan(&desired, &actual, |observed| observed);
        assert_eq!((plan.attach.len(), plan.update.len(), plan.detach.len()), (1, 0, 1));
    }
}
