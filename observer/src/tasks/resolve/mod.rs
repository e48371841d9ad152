//! Resolves the task of an interface, and gathers facts about both from the views of the sources. A
//! view is the latest answer of a source. Pure: no clock and no I/O.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Attribute, Conflict, Fact, Identity, Interface, InterfaceKey, Mac, Source,
    view::{ContainerView, Detail, EniView, TaskView, View},
};

/// The latest view of each source.
pub(super) type Views = BTreeMap<Source, Arc<View>>;

/// Evidence of an interface's task, in addition to the kernel's description.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence<'a> {
    /// IDs of containers with processes in the interface's network namespace.
    pub(super) containers: &'a [Box<str>],
    /// Parsed name of the namespace's file, if it has the form of [`NetnsName`].
    pub(super) name: Option<&'a NetnsName>,
    /// True if the introspection endpoint was asked after the interface appeared. Only then are the
    /// addresses of its tasks current.
    pub(super) fresh: bool,
    /// True if no other interface of the namespace can be an ENI.
    pub(super) alone: bool,
    /// The task that was resolved earlier. It counts if nothing matches any more, because the last
    /// container of a task may end before its interface does.
    pub(super) task: Option<&'a (MatchedBy, Box<str>)>,
}

/// The name of a task's namespace on newer platforms: `<task id>-<ENI id, or MAC address without
/// colons>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetnsName {
    pub(super) task: Box<str>,
    pub(super) interface: Box<str>,
}

impl NetnsName {
    /// Parses the name of a namespace file.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (task, interface) = name.split_at_checked(32)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let interface = interface.strip_prefix('-').filter(|interface| !interface.is_empty())?;
        task.bytes().all(hex).then(|| Self { task: task.into(), interface: interface.into() })
    }
}

/// Property by which an interface was matched to its task, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchedBy {
    /// A container of the task is in the namespace.
    Container,
    /// The task has the interface's MAC address.
    Mac,
    /// The namespace is named after the task.
    Name,
    /// The task has an address of the interface. Needs [`Evidence::fresh`].
    Address,
}

/// The task and the facts of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Id of its task, and the property that matched.
    pub(super) task: Option<(MatchedBy, Box<str>)>,
    /// Facts from all sources, in no particular order. They may contradict each other.
    pub(super) facts: Vec<Fact>,
    /// Other tasks that sources list with the interface's MAC address.
    pub(super) conflicts: Vec<Conflict>,
}

/// Finds the task of an interface, and gathers facts about the interface and the task.
pub(super) fn resolve(
    key: InterfaceKey,
    interface: &Interface,
    evidence: Evidence<'_>,
    views: &Views,
) -> Resolution {
    let (mut facts, mut conflicts) = (Vec::new(), Vec::new());
    let mut add = |source, details: &[Detail]| {
        facts.extend(details.iter().map(|(attribute, value)| Fact {
            attribute: *attribute,
            value: value.clone(),
            source,
        }));
    };
    let matches = matching_tasks(interface, evidence, views);
    let task = matches
        .first()
        .map(|(matched, _, task)| (*matched, Box::<str>::from(*task)))
        .or(evidence.task.cloned());

    let mut modes = Vec::new();
    let mut containers: Vec<(Source, Vec<&ContainerView>)> = Vec::new();
    for (source, view) in views {
        for eni in view.enis.iter().filter(|(asked, _)| *asked == key).map(|(_, eni)| eni) {
            add(*source, &eni.details);
        }
        let Some((_, id)) = &task else {
            // An ENI on the host may wait for its task, or its task may have ended: only facts
            // about the ENI apply.
            for (task, eni) in enis(view, interface).filter(|_| interface.on_host) {
                let of_eni = |(attribute, _): &&Detail| !attribute.is_of_task();
                add(*source, &eni.details.iter().filter(of_eni).cloned().collect::<Vec<_>>());
                add(*source, &task.details.iter().filter(of_eni).cloned().collect::<Vec<_>>());
            }
            continue;
        };
        conflicts.extend(other_tasks(*source, view, interface, id));
        if let Some(task) = view.tasks.iter().find(|task| task.id == *id) {
            for eni in task.enis.iter().filter(|eni| Some(eni.mac) == interface.mac) {
                add(*source, &eni.details);
            }
            add(*source, &task.details);
            modes.extend(
                task.get(Attribute::NetworkMode)
                    .map(|mode| (Attribute::NetworkMode.rank(*source), mode)),
            );
            containers
                .push((*source, task.containers.iter().filter(|it| !it.is_pause()).collect()));
        }
    }
    let mode = modes.into_iter().min().map(|(_, mode)| mode);
    if let Some(name) = evidence.name {
        add(Source::Netns, &name_details(name, interface, evidence.alone));
    }
    if let Some((source, ids)) = container_facts(containers, evidence.containers, mode) {
        add(source, &ids);
    }
    for (source, view) in views {
        let of_host = |(attribute, _): &&Detail| task.is_some() || !attribute.is_of_task();
        // Traffic of bridge mode leaves through the host's primary ENI.
        if let Some(primary) = view.primary.as_ref().filter(|_| mode == Some("bridge")) {
            add(*source, &primary.details);
        }
        add(*source, &view.host.iter().filter(of_host).cloned().collect::<Vec<_>>());
    }
    if interface.on_host {
        add(Source::Host, &[(Attribute::NetworkMode, "host".into())]);
    }
    Resolution { task, facts, conflicts }
}

/// Other tasks that a source assigns the interface's MAC address to.
fn other_tasks(
    source: Source,
    view: &View,
    interface: &Interface,
    id: &str,
) -> impl Iterator<Item = Conflict> {
    let others = enis(view, interface).filter(move |(other, _)| *other.id != *id);
    others.map(move |(other, _)| Conflict {
        attribute: Attribute::TaskId,
        source,
        value: other.id.clone(),
    })
}

/// Facts about each container that may share the host's interfaces, by container id.
pub(super) fn tenants(all: &Views) -> BTreeMap<Box<str>, Vec<Fact>> {
    let mut tasks = BTreeMap::<&str, Vec<(Source, &TaskView)>>::new();
    for (source, view) in all {
        for task in &view.tasks {
            tasks.entry(&task.id).or_default().push((*source, task));
        }
    }
    let facts_of = |source, details: &[Detail]| -> Vec<Fact> {
        let fact = |(attribute, value): &Detail| Fact {
            attribute: *attribute,
            value: value.clone(),
            source,
        };
        details.iter().filter(|(attribute, _)| attribute.is_of_task()).map(fact).collect()
    };
    let of_host: Vec<Fact> =
        all.iter().flat_map(|(source, view)| facts_of(*source, &view.host)).collect();
    let mut tenants = BTreeMap::new();
    for views in tasks.into_values() {
        let modes = views.iter().filter_map(|(source, task)| {
            Some((Attribute::NetworkMode.rank(*source), task.get(Attribute::NetworkMode)?))
        });
        let has_own =
            views.iter().any(|(_, task)| !task.enis.is_empty() || !task.addresses.is_empty());
        if has_own || modes.min().is_some_and(|(_, mode)| mode != "host") {
            continue;
        }
        let mut of_task = of_host.clone();
        of_task.extend(views.iter().flat_map(|(source, task)| facts_of(*source, &task.details)));
        for (source, container) in views
            .iter()
            .flat_map(|(source, task)| task.containers.iter().map(move |it| (*source, it)))
        {
            if !container.id.is_empty() {
                let own = [
                    (Attribute::ContainerId, container.id.clone()),
                    (Attribute::ContainerName, container.name.clone()),
                ];
                let facts = tenants.entry(container.id.clone()).or_insert_with(|| of_task.clone());
                facts.extend(facts_of(source, &own));
            }
        }
    }
    tenants
}

/// Identity of an ENI and its task by a single view, without an interface on this host.
pub(super) fn identity_of(mac: Mac, source: Source, view: &View) -> Identity {
    let has = |task: &&TaskView| task.enis.iter().any(|eni| eni.mac == mac);
    let Some(task) = view.tasks.iter().find(has) else { return Identity::default() };
    let containers = vec![(source, task.containers.iter().filter(|it| !it.is_pause()).collect())];
    let of_containers = container_facts(containers, &[], None).map(|(_, details)| details);
    let of_eni = task.enis.iter().filter(|eni| eni.mac == mac).flat_map(|eni| &eni.details);
    let details = of_eni.chain(&task.details).cloned().chain(of_containers.into_iter().flatten());
    let facts = details.map(|(attribute, value)| Fact { attribute, value, source });
    Identity::default().merge(facts).0
}

/// ENIs of a view with the interface's MAC address, and their tasks.
fn enis<'a>(
    view: &'a View,
    interface: &Interface,
) -> impl Iterator<Item = (&'a TaskView, &'a EniView)> {
    let mac = interface.mac;
    let of_task = |task: &'a TaskView| task.enis.iter().map(move |eni| (task, eni));
    view.tasks.iter().flat_map(of_task).filter(move |(_, eni)| Some(eni.mac) == mac)
}

/// All matching tasks, strongest property first, then by priority of the source.
fn matching_tasks<'a>(
    interface: &Interface,
    evidence: Evidence<'a>,
    views: &'a Views,
) -> Vec<(MatchedBy, usize, &'a str)> {
    let mut matches = Vec::new();
    // Many tasks share the host's namespace, and an ENI there belongs to none of them.
    if interface.on_host {
        return matches;
    }
    for (source, view) in views {
        let rank = Attribute::TaskId.rank(*source);
        let mut add = |matched, tasks: Vec<&'a str>| {
            // A property that two tasks share matches neither.
            if let Some((first, rest)) = tasks.split_first()
                && rest.iter().all(|other| other == first)
            {
                matches.push((matched, rank, *first));
            }
        };
        let tasks = |wanted: &dyn Fn(&TaskView) -> bool| -> Vec<&'a str> {
            view.tasks.iter().filter(|task| wanted(task)).map(|task| &*task.id).collect()
        };
        add(
            MatchedBy::Container,
            tasks(&|task| {
                task.containers.iter().any(|container| evidence.containers.contains(&container.id))
            }),
        );
        add(
            MatchedBy::Mac,
            tasks(&|task| task.enis.iter().any(|eni| Some(eni.mac) == interface.mac)),
        );
        if evidence.fresh {
            add(
                MatchedBy::Address,
                tasks(&|task| {
                    interface
                        .addresses
                        .iter()
                        .any(|network| task.addresses.contains(&network.addr()))
                }),
            );
        }
    }
    if let Some(name) = evidence.name {
        matches.push((MatchedBy::Name, 0, &*name.task));
    }
    matches.sort();
    matches
}

/// Details of an interface from the name of its namespace.
fn name_details(name: &NetnsName, interface: &Interface, alone: bool) -> Vec<Detail> {
    let mut details =
        vec![(Attribute::TaskId, name.task.clone()), (Attribute::NetworkMode, "awsvpc".into())];
    if name.interface.starts_with("eni-") && alone {
        details.push((Attribute::InterfaceId, name.interface.clone()));
    }
    details.retain(|_| !interface.on_host);
    details
}

/// Ids of a task's containers, all from the source that lists the most: two sources may list them
/// in different orders.
fn container_facts(
    containers: Vec<(Source, Vec<&ContainerView>)>,
    here: &[Box<str>],
    mode: Option<&str>,
) -> Option<(Source, Vec<Detail>)> {
    let weight = |source: Source| usize::MAX - Attribute::ContainerId.rank(source);
    let (source, containers) = containers
        .into_iter()
        .map(|(source, mut containers)| {
            containers.retain(|container| !container.id.is_empty());
            (source, containers)
        })
        .max_by_key(|(source, containers)| (containers.len(), weight(*source)))?;
    let here: Vec<_> = containers.iter().filter(|container| here.contains(&container.id)).collect();
    let only = match here[..] {
        [only] => Some(*only),
        _ => None,
    };
    let mut details = Vec::new();
    match only {
        // In bridge mode each container has its own namespace, so all traffic is this container's.
        Some(only) if mode == Some("bridge") => {
            details.push((Attribute::ContainerId, only.id.clone()));
        }
        _ => {
            let attributes = [Attribute::ContainerId, Attribute::SecondContainerId];
            details.extend(
                attributes.into_iter().zip(containers.iter().map(|container| container.id.clone())),
            );
        }
    }
    details.extend(only.map(|only| (Attribute::ContainerName, only.name.clone())));
    Some((source, details))
}

#[cfg(test)]
mod tests;
