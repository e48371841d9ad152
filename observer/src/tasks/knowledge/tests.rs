use std::sync::Mutex;

use super::*;
use crate::tasks::LinkKind;

#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<(Source, Attribute)>>);

impl SourceObserver for Recorder {
    fn asked(&self, _: Source, _: bool) {}

    fn up(&self, _: Source, _: bool) {}

    fn conflict(&self, source: Source, attribute: Attribute) {
        self.0.lock().unwrap().push((source, attribute));
    }
}

fn of_host() -> KnownInterface {
    let interface = Interface {
        on_host: true,
        mac: "0a:00:00:00:00:01".parse().ok(),
        kind: LinkKind::Physical,
        ..Interface::example()
    };
    let seen = SeenInterface {
        interface,
        appeared: None,
        containers: Vec::new(),
        name: None,
        alone: false,
    };
    KnownInterface::new(seen, Instant::now())
}

#[test]
fn tenants_keep_their_identity_until_they_are_long_gone() {
    let fact = |source, attribute, value: &str| Fact { attribute, value: value.into(), source };
    let facts_of_c1 = |facts: Vec<Fact>| BTreeMap::from([(Box::from("c1"), facts)]);
    let (linger, start) = (Duration::from_secs(10), Instant::now());
    let after = |seconds| (start + Duration::from_secs(seconds), linger);
    let refused = Recorder::default();
    let mut host = of_host();
    let get = |host: &KnownInterface, attribute| {
        host.tenants.get("c1").and_then(|tenant| tenant.get(attribute).map(str::to_owned))
    };

    host.learn_tenants(
        &facts_of_c1(vec![fact(Source::Docker, Attribute::TaskId, "t1")]),
        after(0),
        &refused,
    );
    assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));

    // A value from a source of lower priority is rejected, and counted once.
    for seconds in [1, 2] {
        host.learn_tenants(
            &facts_of_c1(vec![fact(Source::Agent, Attribute::TaskId, "t2")]),
            after(seconds),
            &refused,
        );
        assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));
    }
    assert_eq!(*refused.0.lock().unwrap(), [(Source::Agent, Attribute::TaskId)]);

    // A field of the host applies to its tenants, also to one that is gone.
    let eni = fact(Source::Imds, Attribute::InterfaceId, "eni-1");
    host.identity = Arc::new(Identity::default().merge([eni]).0);
    host.learn_tenants(&BTreeMap::new(), after(11), &refused);
    assert_eq!(get(&host, Attribute::InterfaceId).as_deref(), Some("eni-1"));
    assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));

    host.learn_tenants(&BTreeMap::new(), after(12), &refused);
    assert_eq!(get(&host, Attribute::TaskId), None);
}
