use super::*;

#[test]
fn containers_of_tasks_with_a_network_of_their_own_are_no_tenants() {
    let task = |id: &str, mode: &str| {
        let container = ContainerView { id: format!("c-{id}").into(), ..ContainerView::default() };
        let mut task =
            TaskView { id: id.into(), containers: vec![container], ..TaskView::default() };
        task.add(Attribute::NetworkMode, mode);
        task.add(Attribute::TaskId, id);
        task
    };
    let mut with_eni = task("e", "");
    with_eni.addresses.push([10, 0, 0, 1].into());
    let tasks = vec![task("a", "host"), task("b", "bridge"), task("c", ""), with_eni];
    let host =
        vec![(Attribute::ClusterName, "lab".into()), (Attribute::Region, "eu-west-1".into())];
    let docker = View { host, tasks, ..View::default() };
    // Docker lists no network for a task that the agent lists as `awsvpc`.
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
fn the_strongest_match_decides_and_the_other_is_a_conflict() {
    let here = [Box::from("c1")];
    let evidence = Evidence { containers: &here, ..Evidence::default() };
    let views = views([
        (
            Source::Docker,
            of(vec![TaskView { containers: vec![container("c1", "app")], ..task("new") }]),
        ),
        // A task that had this MAC address before.
        (Source::Agent, of(vec![TaskView { enis: vec![eni(MAC, "eni-old")], ..task("old") }])),
    ]);
    let resolution = resolve(KEY, &interface(), evidence, &views);
    assert_eq!(task_of(&resolution), Some("new"));
    let [conflict] = &resolution.conflicts[..] else { panic!("{:?}", resolution.conflicts) };
    assert_eq!((conflict.source, &*conflict.value), (Source::Agent, "old"));
    assert_eq!(identity(resolution).get(Attribute::InterfaceId), None, "the other task's ENI");
}

#[test]
fn a_mac_address_of_two_tasks_matches_neither() {
    let twice = vec![
        TaskView { enis: vec![eni(MAC, "eni-1")], ..task("one") },
        TaskView { enis: vec![eni(MAC, "eni-2")], ..task("two") },
    ];
    let views = views([(Source::Agent, of(twice))]);
    let resolution = resolve(KEY, &interface(), Evidence::default(), &views);
    assert_eq!(resolution, Resolution::default());
}

#[test]
fn an_address_matches_only_if_it_is_current_and_unique() {
    let with = |id| TaskView { addresses: vec!["10.0.0.1".parse().unwrap()], ..task(id) };
    let fresh = Evidence { fresh: true, ..Evidence::default() };
    let one = views([(Source::Introspection, of(vec![with("one")]))]);
    assert_eq!(task_of(&resolve(KEY, &interface(), fresh, &one)), Some("one"));
    assert_eq!(task_of(&resolve(KEY, &interface(), Evidence::default(), &one)), None);
    let two = views([(Source::Introspection, of(vec![with("one"), with("two")]))]);
    assert_eq!(task_of(&resolve(KEY, &interface(), fresh, &two)), None);
}

#[test]
fn an_eni_on_the_host_has_no_task() {
    let on_host = Interface { on_host: true, ..interface() };
    let views = views([(
        Source::File,
        of(vec![TaskView { enis: vec![eni(MAC, "eni-1")], ..task("one") }]),
    )]);
    let resolution = resolve(KEY, &on_host, Evidence::default(), &views);
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
    let evidence = Evidence { containers: &here, ..Evidence::default() };
    let identity = identity(resolve(KEY, &interface(), evidence, &views));
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
    planned.containers =
        vec![container("c1", "app"), container("c2", "sidecar"), container("", "later")];
    let here = [Box::from("c0"), Box::from("c2")];
    let evidence = Evidence { containers: &here, ..Evidence::default() };
    let views = views([(Source::Docker, of(vec![started])), (Source::Tmds, of(vec![planned]))]);
    let identity = identity(resolve(KEY, &interface(), evidence, &views));
    assert_eq!(identity.get(Attribute::ContainerId), Some("c1"));
    assert_eq!(identity.get(Attribute::SecondContainerId), Some("c2"));
    assert_eq!(identity.source(Attribute::ContainerId), Some(Source::Tmds));
}

#[test]
fn a_namespace_may_be_named_after_task_and_eni() {
    let id = "0123456789abcdef0123456789abcdef";
    let name = NetnsName::parse(&format!("{id}-eni-0a")).unwrap();
    let evidence = Evidence { name: Some(&name), alone: true, ..Evidence::default() };
    let resolution = resolve(KEY, &interface(), evidence, &Views::new());
    assert_eq!(resolution.task, Some((MatchedBy::Name, id.into())));
    assert_eq!(identity(resolution).get(Attribute::InterfaceId), Some("eni-0a"));
    for name in [
        "",
        "web",
        id,
        &format!("{id}-"),
        &id.to_uppercase(),
        "0123456789abcdef0123456789abcde\u{e9}-a",
    ] {
        assert_eq!(NetnsName::parse(name), None, "{name:?}");
    }
}

#[test]
fn an_eni_of_one_interface_is_not_given_to_another() {
    let asked = InterfaceKey { birth: 7, ..KEY };
    let view = View { enis: vec![(asked, eni(MAC, "eni-old"))], ..View::default() };
    let views = views([(Source::Imds, view)]);
    let identity = identity(resolve(KEY, &interface(), Evidence::default(), &views));
    assert_eq!(identity.get(Attribute::InterfaceId), None);
}
