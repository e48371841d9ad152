//! Links between namespaces. A link leads inward if every way out of the namespace behind it passes
//! through this one.
//!
//! The host's namespace counts as outside, and so does every unknown namespace.

use std::collections::{BTreeMap, BTreeSet};

/// Number of a namespace as seen from the host's; `None` is the host's own.
pub(super) type Node<Id> = Option<Id>;

/// Graph of links between namespaces.
#[derive(Debug)]
pub(super) struct Paths<Id> {
    links: BTreeMap<Node<Id>, BTreeSet<Node<Id>>>,
}

impl<Id: Copy + Ord> Paths<Id> {
    /// A graph of the known namespaces, each with the namespaces that its interfaces lead to.
    pub(super) fn new<To: IntoIterator<Item = Node<Id>>>(
        known: impl IntoIterator<Item = (Node<Id>, To)>,
    ) -> Self {
        let links = known.into_iter().map(|(node, to)| (node, to.into_iter().collect()));
        Self { links: links.collect() }
    }

    /// True if a link of `from` to `to` leads inward. False if no link of `from` leads outward.
    pub(super) fn is_inward(&self, from: Node<Id>, to: Node<Id>) -> bool {
        let outward = |to: &Node<Id>| self.gets_out(*to, from);
        !outward(&to)
            && (from.is_none()
                || self.links.get(&from).is_some_and(|links| links.iter().any(outward)))
    }

    /// True if a path from `start` to the outside avoids the namespace `avoided`.
    fn gets_out(&self, start: Node<Id>, avoided: Node<Id>) -> bool {
        let mut seen = BTreeSet::from([avoided]);
        let mut waiting = vec![start];
        while let Some(node) = waiting.pop() {
            if !seen.insert(node) {
                continue;
            }
            match self.links.get(&node) {
                Some(links) if node.is_some() => waiting.extend(links.iter().copied()),
                _ => return true,
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Node<i32> = None;

    fn paths(known: &[(Node<i32>, &[Node<i32>])]) -> Paths<i32> {
        Paths::new(known.iter().map(|(node, to)| (*node, to.iter().copied())))
    }

    #[test]
    fn a_container_in_a_container_is_inward_and_the_host_is_outward() {
        let paths = paths(&[
            (Some(1), &[HOST, Some(2)]),
            (Some(2), &[Some(1), Some(3)]),
            (Some(3), &[Some(2)]),
        ]);
        assert!(!paths.is_inward(Some(1), HOST));
        assert!(paths.is_inward(Some(1), Some(2)));
        assert!(!paths.is_inward(Some(2), Some(1)));
        assert!(paths.is_inward(Some(2), Some(3)));
        assert!(!paths.is_inward(Some(3), Some(2)));
    }

    #[test]
    fn an_unknown_namespace_is_outside() {
        let paths = paths(&[(HOST, &[Some(1), Some(9)]), (Some(1), &[Some(9), HOST])]);
        assert!(!paths.is_inward(Some(1), Some(9)));
        assert!(!paths.is_inward(HOST, Some(1)), "it can be left by the unknown one");
        let paths = self::paths(&[(HOST, &[Some(1), Some(9)]), (Some(1), &[HOST])]);
        assert!(paths.is_inward(HOST, Some(1)), "the host's end of a container's pair");
        assert!(!paths.is_inward(HOST, Some(9)));
    }

    #[test]
    fn two_that_lead_to_each_other_only_are_no_insides() {
        let paths = paths(&[(Some(1), &[Some(2)]), (Some(2), &[Some(1)])]);
        assert!(!paths.is_inward(Some(1), Some(2)));
        assert!(!paths.is_inward(Some(2), Some(1)));
    }
}
