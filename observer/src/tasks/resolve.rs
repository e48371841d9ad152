//! Which task an interface belongs to, and what the sources' views say of it. Pure.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Attribute, Conflict, Fact, Identity, Interface, InterfaceKey, Mac, Source,
    view::{ContainerView, Detail, EniView, TaskView, View},
};

/// The latest view of each source.
pub(super) type Views = BTreeMap<Source, Arc<View>>;

/// Where an interface is, beyond what the kernel says of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place<'a> {
    /// Ids of containers with processes in its namespace.
    pub(super) containers: &'a [Box<str>],
    /// What the namespace's file is called.
    pub(super) name: Option<&'a NetnsName>,
    /// Whether the views are younger than the interface, so that an address that was another's is no longer told.
    pub(super) fresh: bool,
    /// Whether the interface is the only one of its namespace that can be an ENI.
    pub(super) alone: bool,
    /// Its task as known from before: a task's last container may be gone before its interface is.
    pub(super) task: Option<&'a (Tie, Box<str>)>,
}

/// The name of a task's namespace on newer platforms: `<task id>-<ENI id, or MAC address without colons>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetnsName {
    pub(super) task: Box<str>,
    pub(super) interface: Box<str>,
}

impl NetnsName {
    /// Reads a file's name.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let (task, interface) = name.split_at_checked(32)?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let interface = interface.strip_prefix('-').filter(|interface| !interface.is_empty())?;
        task.bytes().all(hex).then(|| Self { task: task.into(), interface: interface.into() })
    }
}

/// How firmly an interface is tied to its task, firmest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tie {
    /// A container of the task is in the namespace.
    Container,
    /// The task has the interface's MAC address.
    Mac,
    /// The namespace is named after the task.
    Name,
    /// The task has one of the interface's addresses.
    Address,
}

/// What the views say of an interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Resolution {
    /// Its task's id, and how it is known.
    pub(super) task: Option<(Tie, Box<str>)>,
    /// What is said, in no order.
    pub(super) facts: Vec<Fact>,
    /// Other tasks that it is said to belong to.
    pub(super) conflicts: Vec<Conflict>,
}

/// Finds the task, and gathers all that is said.
pub(super) fn resolve(
    key: InterfaceKey,
    interface: &Interface,
    place: Place<'_>,
    views: &Views,
) -> Resolution {
    let (mut facts, mut conflicts) = (Vec::new(), Vec::new());
    let mut say = |source, details: &[Detail]| {
        facts.extend(details.iter().map(|(attribute, value)| Fact {
            attribute: *attribute,
            value: value.clone(),
            source,
        }));
    };
    let ties = ties(interface, place, views);
    let task = ties.first().map(|(tie, _, task)| (*tie, Box::<str>::from(*task))).or(place.task.cloned());

    let mut modes = Vec::new();
    let mut containers: Vec<(Source, Vec<&ContainerView>)> = Vec::new();
    for (source, view) in views {
        for eni in view.enis.iter().filter(|(asked, _)| *asked == key).map(|(_, eni)| eni) {
            say(*source, &eni.details);
        }
        let Some((_, id)) = &task else {
            // On the host an ENI may await its task, or have lost it: what holds is what is said of the ENI alone.
            for (task, eni) in enis(view, interface).filter(|_| interface.on_host) {
                let of_eni = |(attribute, _): &&Detail| !attribute.is_of_task();
                say(*source, &eni.details.iter().filter(of_eni).cloned().collect::<Vec<_>>());
                say(*source, &task.details.iter().filter(of_eni).cloned().collect::<Vec<_>>());
            }
            continue;
        };
        // A source that gives this address to another task says nothing of this one's.
        let others = enis(view, interface).filter(|(other, _)| other.id != *id);
        conflicts.extend(others.map(|(other, _)| Conflict {
            attribute: Attribute::TaskId,
            source: *source,
            value: other.id.clone(),
        }));
        if let Some(task) = view.tasks.iter().find(|task| task.id == *id) {
            for eni in task.enis.iter().filter(|eni| Some(eni.mac) == interface.mac) {
                say(*source, &eni.details);
            }
            say(*source, &task.details);
            modes.extend(
                task.get(Attribute::NetworkMode).map(|mode| (Attribute::NetworkMode.rank(*source), mode)),
            );
            containers.push((*source, task.containers.iter().filter(|it| !it.is_pause()).collect()));
        }
    }
    let mode = modes.into_iter().min().map(|(_, mode)| mode);
    if let Some(name) = place.name {
        say(Source::Netns, &named(name, interface, place.alone));
    }
    if let Some((source, ids)) = container_facts(containers, place.containers, mode) {
        say(source, &ids);
    }
    for (source, view) in views {
        let of_host = |(attribute, _): &&Detail| task.is_some() || !attribute.is_of_task();
        // Traffic of a bridge leaves the host by its primary ENI.
        if let Some(primary) = view.primary.as_ref().filter(|_| mode == Some("bridge")) {
            say(*source, &primary.details);
        }
        say(*source, &view.host.iter().filter(of_host).cloned().collect::<Vec<_>>());
    }
    if interface.on_host {
        say(Source::Host, &[(Attribute::NetworkMode, "host".into())]);
    }
    Resolution { task, facts, conflicts }
}

/// Containers that may share the host's interfaces, and what is said of each.
pub(super) fn tenants(views: &Views) -> BTreeMap<Box<str>, Vec<Fact>> {
    let mut tasks = BTreeMap::<&str, Vec<(Source, &TaskView)>>::new();
    for (source, view) in views {
        for task in &view.tasks {
            tasks.entry(&task.id).or_default().push((*source, task));
        }
    }
    let facts_of = |source, details: &[Detail]| -> Vec<Fact> {
        let fact = |(attribute, value): &Detail| Fact { attribute: *attribute, value: value.clone(), source };
        details.iter().filter(|(attribute, _)| attribute.is_of_task()).map(fact).collect()
    };
    let of_host: Vec<Fact> = views.iter().flat_map(|(source, view)| facts_of(*source, &view.host)).collect();
    let mut tenants = BTreeMap::new();
    for said in tasks.into_values() {
        let modes = said.iter().filter_map(|(source, task)| {
            Some((Attribute::NetworkMode.rank(*source), task.get(Attribute::NetworkMode)?))
        });
        let has_own = said.iter().any(|(_, task)| !task.enis.is_empty() || !task.addresses.is_empty());
        if has_own || modes.min().is_some_and(|(_, mode)| mode != "host") {
            continue;
        }
        let mut of_task = of_host.clone();
        of_task.extend(said.iter().flat_map(|(source, task)| facts_of(*source, &task.details)));
        for (source, container) in
            said.iter().flat_map(|(source, task)| task.containers.iter().map(move |it| (*source, it)))
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

/// What one source says of an ENI that is nowhere to be seen, and of its task.
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

/// The ENIs of a view that have the interface's MAC address, with their tasks.
fn enis<'a>(view: &'a View, interface: &Interface) -> impl Iterator<Item = (&'a TaskView, &'a EniView)> {
    let mac = interface.mac;
    let of_task = |task: &'a TaskView| task.enis.iter().map(move |eni| (task, eni));
    view.tasks.iter().flat_map(of_task).filter(move |(_, eni)| Some(eni.mac) == mac)
}

/// Every tie to a task, firmest first; where it is equally firm, by the weight of who says so.
fn ties<'a>(interface: &Interface, place: Place<'a>, views: &'a Views) -> Vec<(Tie, usize, &'a str)> {
    let mut ties = Vec::new();
    // Many tasks share the host's namespace, and an ENI that is there is with none of them.
    if interface.on_host {
        return ties;
    }
    for (source, view) in views {
        let rank = Attribute::TaskId.rank(*source);
        let mut tie = |tie, tasks: Vec<&'a str>| {
            // What two tasks are said to have is no tie to either.
            if let Some((first, rest)) = tasks.split_first()
                && rest.iter().all(|other| other == first)
            {
                ties.push((tie, rank, *first));
            }
        };
        let tasks = |wanted: &dyn Fn(&TaskView) -> bool| -> Vec<&'a str> {
            view.tasks.iter().filter(|task| wanted(task)).map(|task| &*task.id).collect()
        };
        tie(
            Tie::Container,
            tasks(&|task| task.containers.iter().any(|container| place.containers.contains(&container.id))),
        );
        tie(Tie::Mac, tasks(&|task| task.enis.iter().any(|eni| Some(eni.mac) == interface.mac)));
        if place.fresh {
            tie(
                Tie::Address,
                tasks(&|task| {
                    interface.addresses.iter().any(|network| task.addresses.contains(&network.addr()))
                }),
            );
        }
    }
    if let Some(name) = place.name {
        ties.push((Tie::Name, 0, &*name.task));
    }
    ties.sort();
    ties
}

/// What the name of its namespace says of an interface.
fn named(name: &NetnsName, interface: &Interface, alone: bool) -> Vec<Detail> {
    let mut details = vec![(Attribute::TaskId, name.task.clone()), (Attribute::NetworkMode, "awsvpc".into())];
    if name.interface.starts_with("eni-") && alone {
        details.push((Attribute::InterfaceId, name.interface.clone()));
    }
    details.retain(|_| !interface.on_host);
    details
}

/// The ids of a task's containers, all from the one source that knows most of them: two sources may count them in
/// different orders.
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
        // Each container has a namespace of its own, so the traffic is this one's.
        Some(only) if mode == Some("bridge") => details.push((Attribute::ContainerId, only.id.clone())),
        _ => {
            let attributes = [Attribute::ContainerId, Attribute::SecondContainerId];
            details
                .extend(attributes.into_iter().zip(containers.iter().map(|container| container.id.clone())));
        }
    }
    details.extend(only.map(|only| (Attribute::ContainerName, only.name.clone())));
    Some((source, details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_of_tasks_with_a_network_of_their_own_are_no_tenants() {
        let task = |id: &str, mode: &str| {
            let container = ContainerView { id: format!("c-{id}").into(), ..ContainerView::default() };
            let mut task = TaskView { id: id.into(), containers: vec![container], ..TaskView::default() };
            task.add(Attribute::NetworkMode, mode);
            task.add(Attribute::TaskId, id);
            task
        };
        let mut with_eni = task("e", "");
        with_eni.addresses.push([10, 0, 0, 1].into());
        let tasks = vec![task("a", "host"), task("b", "bridge"), task("c", ""), with_eni];
        let host = vec![(Attribute::ClusterName, "lab".into()), (Attribute::Region, "eu-west-1".into())];
        let docker = View { host, tasks, ..View::default() };
        // Docker says "none" of what the agent knows better.
        let agent = View { tasks: vec![task("a", "host"), task("c", "awsvpc")], ..View::default() };
        let views = |more: Option<View>| -> Views {
            let agent = more.map(|view| (Source::Agent, Arc::new(view)));
            [(Source::Docker, Arc::new(docker.clone()))].into_iter().chain(agent).collect()
        };
        let found = tenants(&views(None));
        assert_eq!(found.keys().map(|id| &**id).collect::<Vec<_>>(), ["c-a", "c-c"]);
        let identity = Identity::default().merge(found["c-a"].clone()).0;
        assert_eq!(identity.get(Attribute::TaskId), Some("a"));
        assert_eq!(identity.get(Attribute::ContainerId), Some("c-a"));
        assert_eq!(identity.get(Attribute::ClusterName), Some("lab"));
        let found = tenants(&views(Some(agent)));
        assert_eq!(found.keys().map(|id| &**id).collect::<Vec<_>>(), ["c-a"]);
    }

    const KEY: InterfaceKey = InterfaceKey { netns: 1, birth: 1, ifindex: 2 };
    const MAC: &str = "0a:00:00:00:00:01";

    fn interface() -> Interface {
        Interface {
            mac: MAC.parse().ok(),
            addresses: vec!["10.0.0.1/24".parse().unwrap()],
            ..Interface::example()
        }
    }

    fn eni(mac: &str, id: &str) -> EniView {
        EniView { mac: mac.parse().unwrap(), details: vec![(Attribute::InterfaceId, id.into())] }
    }

    fn container(id: &str, name: &str) -> ContainerView {
        ContainerView { id: id.into(), name: name.into(), ..ContainerView::default() }
    }

    fn task(id: &str) -> TaskView {
        TaskView::new(&format!("arn:aws:ecs:eu-west-1:111122223333:task/lab/{id}")).unwrap()
    }

    fn views<const N: usize>(views: [(Source, View); N]) -> Views {
        views.into_iter().map(|(source, view)| (source, Arc::new(view))).collect()
    }

    fn of(tasks: Vec<TaskView>) -> View {
        View { tasks, ..View::default() }
    }

    fn identity(resolution: Resolution) -> Identity {
        Identity::default().merge(resolution.facts).0
    }

    fn task_of(resolution: &Resolution) -> Option<&str> {
        resolution.task.as_ref().map(|(_, task)| &**task)
    }

    #[test]
    fn the_firmest_tie_decides_and_the_other_is_a_conflict() {
        let here = [Box::from("c1")];
        let place = Place { containers: &here, ..Place::default() };
        let views = views([
            (Source::Docker, of(vec![TaskView { containers: vec![container("c1", "app")], ..task("new") }])),
            // The state of a task that had this MAC address before.
            (Source::Agent, of(vec![TaskView { enis: vec![eni(MAC, "eni-old")], ..task("old") }])),
        ]);
        let resolution = resolve(KEY, &interface(), place, &views);
        assert_eq!(task_of(&resolution), Some("new"));
        let [conflict] = &resolution.conflicts[..] else { panic!("{:?}", resolution.conflicts) };
        assert_eq!((conflict.source, &*conflict.value), (Source::Agent, "old"));
        assert_eq!(identity(resolution).get(Attribute::InterfaceId), None, "the other task's ENI");
    }

    #[test]
    fn what_two_tasks_are_said_to_have_ties_to_neither() {
        let twice = vec![
            TaskView { enis: vec![eni(MAC, "eni-1")], ..task("one") },
            TaskView { enis: vec![eni(MAC, "eni-2")], ..task("two") },
        ];
        let views = views([(Source::Agent, of(twice))]);
        let resolution = resolve(KEY, &interface(), Place::default(), &views);
        assert_eq!(resolution, Resolution::default());
    }

    #[test]
    fn an_address_counts_only_if_it_was_asked_for_in_time_and_is_no_other_tasks() {
        let with = |id| TaskView { addresses: vec!["10.0.0.1".parse().unwrap()], ..task(id) };
        let fresh = Place { fresh: true, ..Place::default() };
        let one = views([(Source::Introspection, of(vec![with("one")]))]);
        assert_eq!(task_of(&resolve(KEY, &interface(), fresh, &one)), Some("one"));
        assert_eq!(task_of(&resolve(KEY, &interface(), Place::default(), &one)), None);
        let two = views([(Source::Introspection, of(vec![with("one"), with("two")]))]);
        assert_eq!(task_of(&resolve(KEY, &interface(), fresh, &two)), None);
    }

    #[test]
    fn an_eni_on_the_host_has_no_task() {
        let on_host = Interface { on_host: true, ..interface() };
        let views =
            views([(Source::File, of(vec![TaskView { enis: vec![eni(MAC, "eni-1")], ..task("one") }]))]);
        let resolution = resolve(KEY, &on_host, Place::default(), &views);
        assert_eq!(resolution.task, None);
        let identity = identity(resolution);
        assert_eq!(identity.get(Attribute::InterfaceId), Some("eni-1"));
        assert_eq!(identity.get(Attribute::AccountId), Some("111122223333"));
        assert_eq!(identity.get(Attribute::NetworkMode), Some("host"));
        assert_eq!(identity.get(Attribute::TaskArn), None);
    }

    #[test]
    fn a_container_of_a_bridge_is_itself_and_leaves_by_the_primary_eni() {
        let mut bridged = task("one");
        bridged.add(Attribute::NetworkMode, "bridge");
        bridged.containers = vec![container("c1", "app"), container("c2", "sidecar")];
        let imds = View { primary: Some(eni("0a:00:00:00:00:99", "eni-primary")), ..View::default() };
        let views = views([(Source::Docker, of(vec![bridged])), (Source::Imds, imds)]);
        let here = [Box::from("c2")];
        let place = Place { containers: &here, ..Place::default() };
        let identity = identity(resolve(KEY, &interface(), place, &views));
        for (attribute, expected) in [
            (Attribute::ContainerId, Some("c2")),
            (Attribute::SecondContainerId, None),
            (Attribute::ContainerName, Some("sidecar")),
            (Attribute::InterfaceId, Some("eni-primary")),
            (Attribute::TaskId, Some("one")),
        ] {
            assert_eq!(identity.get(attribute), expected, "{attribute:?}");
        }
    }

    #[test]
    fn containers_are_counted_by_the_source_that_knows_most_and_without_the_pause_container() {
        let mut started = task("one");
        started.containers = vec![container("c0", "~internal~ecs~pause"), container("c2", "sidecar")];
        let mut planned = task("one");
        planned.containers = vec![container("c1", "app"), container("c2", "sidecar"), container("", "later")];
        let here = [Box::from("c0"), Box::from("c2")];
        let place = Place { containers: &here, ..Place::default() };
        let views = views([(Source::Docker, of(vec![started])), (Source::Tmds, of(vec![planned]))]);
        let identity = identity(resolve(KEY, &interface(), place, &views));
        assert_eq!(identity.get(Attribute::ContainerId), Some("c1"));
        assert_eq!(identity.get(Attribute::SecondContainerId), Some("c2"));
        assert_eq!(identity.source(Attribute::ContainerId), Some(Source::Tmds));
    }

    #[test]
    fn a_namespace_may_be_named_after_task_and_eni() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = NetnsName::parse(&format!("{id}-eni-0a")).unwrap();
        let place = Place { name: Some(&name), alone: true, ..Place::default() };
        let resolution = resolve(KEY, &interface(), place, &Views::new());
        assert_eq!(resolution.task, Some((Tie::Name, id.into())));
        assert_eq!(identity(resolution).get(Attribute::InterfaceId), Some("eni-0a"));
        for name in
            ["", "web", id, &format!("{id}-"), &id.to_uppercase(), "0123456789abcdef0123456789abcde\u{e9}-a"]
        {
            assert_eq!(NetnsName::parse(name), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_asked_of_one_interface_is_not_said_of_another() {
        let asked = InterfaceKey { birth: 7, ..KEY };
        let view = View { enis: vec![(asked, eni(MAC, "eni-old"))], ..View::default() };
        let views = views([(Source::Imds, view)]);
        let identity = identity(resolve(KEY, &interface(), Place::default(), &views));
        assert_eq!(identity.get(Attribute::InterfaceId), None);
    }
}
