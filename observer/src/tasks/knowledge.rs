//! What is known of each interface, as the sources' views come in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Appeared, Attribute, Conflict, Fact, Identity, Interface, InterfaceKey, Mac, Observed, Source,
    SourceObserver, State,
    resolve::{NetnsName, Place, Tie, Views, resolve, tenants},
    sources::News,
    view::View,
};

/// The views of the sources, and what was made of them.
#[derive(Debug)]
pub(super) struct Knowledge {
    views: Views,
    /// When the introspection endpoint was last asked, whose addresses hold for interfaces that are older.
    introspected: Option<Instant>,
    states: BTreeMap<Source, State>,
    known: BTreeMap<InterfaceKey, Known>,
    observer: Arc<dyn SourceObserver>,
}

/// An interface, and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    sight: Sight,
    since: Instant,
    /// When it appeared, if it was to be observed from then on.
    appeared: Option<Appeared>,
    task: Option<(Tie, Box<str>)>,
    identity: Arc<Identity>,
    conflicts: BTreeSet<Conflict>,
    /// Of an interface of the host, who its flows may be of, by container.
    tenants: Arc<BTreeMap<Box<str>, Arc<Identity>>>,
    /// When each of them was last told of.
    told: BTreeMap<Box<str>, Instant>,
    /// When it was seen last, if it is no longer there.
    departed: Option<Instant>,
}

/// An interface that is chosen so long after it appeared was none to be observed before: a source has named it.
const CHOSEN_LATE: Duration = Duration::from_secs(1);
/// More contradictions about one interface are not remembered, nor counted.
const MAX_CONFLICTS: usize = 100;

/// What is seen of an interface at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    pub(super) interface: Interface,
    pub(super) appeared: Option<Appeared>,
    /// Ids of the containers in its namespace.
    pub(super) containers: Vec<Box<str>>,
    /// What its namespace's file is called.
    pub(super) name: Option<NetnsName>,
    /// Whether nothing else in its namespace can be the ENI.
    pub(super) alone: bool,
}

impl Knowledge {
    /// Nothing is known but what `view`s say from the start.
    pub(super) fn new(
        sources: impl IntoIterator<Item = Source>,
        views: impl IntoIterator<Item = (Source, View)>,
        observer: Arc<dyn SourceObserver>,
    ) -> Self {
        Self {
            views: views.into_iter().map(|(source, view)| (source, Arc::new(view))).collect(),
            introspected: None,
            states: sources.into_iter().map(|source| (source, State::default())).collect(),
            known: BTreeMap::new(),
            observer,
        }
    }

    /// Takes what a source tells; says whether anything is different now.
    pub(super) fn take(&mut self, source: Source, news: News) -> bool {
        match news {
            News::View(view, asked) => {
                if source == Source::Introspection {
                    self.introspected = Some(asked);
                }
                let same = self.views.get(&source).is_some_and(|before| **before == *view);
                self.views.insert(source, Arc::from(view));
                // Even the same answer may tell of an interface that was too young for the one before.
                !same || source == Source::Introspection
            }
            News::State(state) => {
                let before = self.states.insert(source, state.clone()).unwrap_or_default();
                self.observer.up(source, state == State::Up);
                match (&before, &state) {
                    (State::Up, State::Down(reason)) => {
                        tracing::warn!(source = source.as_str(), %reason, "a source no longer answers; what it said still holds");
                    }
                    (State::Starting, State::Down(reason)) => {
                        tracing::info!(source = source.as_str(), %reason, "a source does not answer; trying again");
                    }
                    (State::Down(_), State::Up) => {
                        tracing::info!(source = source.as_str(), "a source answers");
                    }
                    _ => {}
                }
                before != state
            }
        }
    }

    /// How the sources are.
    pub(super) fn states(&self) -> &BTreeMap<Source, State> {
        &self.states
    }

    /// What they say.
    pub(super) fn views(&self) -> &Views {
        &self.views
    }

    /// Whether a source says that a task has this MAC address, or that it was asked about it and knows it.
    pub(super) fn names(&self, key: InterfaceKey, mac: Option<Mac>) -> bool {
        let Some(mac) = mac else { return false };
        self.views.values().any(|view| {
            view.enis.iter().any(|(asked, _)| *asked == key)
                || view.tasks.iter().any(|task| task.enis.iter().any(|eni| eni.mac == mac))
        })
    }

    /// Whether a MAC address is a trunk's.
    pub(super) fn is_trunk(&self, mac: Option<Mac>) -> bool {
        mac.is_some_and(|mac| self.views.values().any(|view| view.trunks.contains(&mac)))
    }

    /// What is known of all interfaces now: of those that are there, and of those that left less than `linger` ago. Those
    /// that are there and not to be observed any more are forgotten.
    pub(super) fn identify(
        &mut self,
        sights: BTreeMap<InterfaceKey, Sight>,
        is_left_out: impl Fn(&InterfaceKey) -> bool,
        linger: Duration,
    ) -> (Vec<Observed>, Vec<Observed>) {
        let now = Instant::now();
        self.known.retain(|key, _| !is_left_out(key));
        for (key, known) in &mut self.known {
            if !sights.contains_key(key) {
                known.departed.get_or_insert(now);
            }
        }
        self.known.retain(|_, known| known.departed.is_none_or(|left| now.duration_since(left) < linger));
        for (key, sight) in sights {
            let known =
                self.known.get_mut(&key).filter(|known| known.sight.interface.mac == sight.interface.mac);
            match known {
                Some(known) => known.sight = sight,
                // A changed MAC address is another ENI.
                None => drop(self.known.insert(key, Known::new(sight, now))),
            }
        }
        let (mut present, mut departed) = (Vec::new(), Vec::new());
        let has_tenants = self.known.values().any(|known| known.sight.interface.on_host);
        let tenants = if has_tenants { tenants(&self.views) } else { BTreeMap::new() };
        for (key, known) in &mut self.known {
            known.learn(*key, &self.views, self.introspected, &*self.observer);
            if known.sight.interface.on_host {
                known.learn_tenants(&tenants, (now, linger), &*self.observer);
            }
            let observed = Observed {
                key: *key,
                interface: known.sight.interface.clone(),
                appeared: known.appeared,
                identity: Arc::clone(&known.identity),
                tenants: Arc::clone(&known.tenants),
                awaits_identity: known.awaits_identity(&self.states),
                older: known.sight.appeared.is_none(),
            };
            if known.departed.is_none() { present.push(observed) } else { departed.push(observed) }
        }
        (present, departed)
    }

    /// All that is known.
    pub(super) fn known(&self) -> impl Iterator<Item = (&InterfaceKey, &Known)> {
        self.known.iter()
    }
}

impl Known {
    fn new(sight: Sight, since: Instant) -> Self {
        let appeared = sight.appeared.filter(|it| since.duration_since(it.at) < CHOSEN_LATE);
        Self {
            sight,
            since,
            appeared,
            task: None,
            identity: Arc::default(),
            conflicts: BTreeSet::new(),
            tenants: Arc::default(),
            told: BTreeMap::new(),
            departed: None,
        }
    }

    fn learn(
        &mut self,
        key: InterfaceKey,
        views: &Views,
        introspected: Option<Instant>,
        observer: &dyn SourceObserver,
    ) {
        let place = Place {
            containers: &self.sight.containers,
            name: self.sight.name.as_ref(),
            fresh: introspected.is_some_and(|asked| asked >= self.since),
            alone: self.sight.alone,
            task: self.task.as_ref(),
        };
        let resolution = resolve(key, &self.sight.interface, place, views);
        let mut conflicts = resolution.conflicts;
        let before = match (&self.task, resolution.task) {
            (Some((old, task)), Some((new, other))) if *task != other => {
                let conflict =
                    |value| Conflict { attribute: Attribute::TaskId, source: Source::Netns, value };
                if new >= *old {
                    // Another word of no more weight: what was known stays.
                    conflicts.push(conflict(other));
                    self.refuse(conflicts, observer);
                    return;
                }
                conflicts.push(conflict(task.clone()));
                self.task = Some((new, other));
                &Identity::default()
            }
            (old, Some(new)) => {
                if old.as_ref().is_none_or(|old| new.0 < old.0) {
                    self.task = Some(new);
                }
                &*self.identity
            }
            (_, None) => &*self.identity,
        };
        let (identity, more) = before.merge(resolution.facts);
        conflicts.extend(more);
        if identity != *self.identity {
            self.identity = Arc::new(identity);
        }
        self.refuse(conflicts, observer);
    }

    /// Those that are gone are remembered for a while: their flows may be.
    fn learn_tenants(
        &mut self,
        said: &BTreeMap<Box<str>, Vec<Fact>>,
        (now, linger): (Instant, Duration),
        observer: &dyn SourceObserver,
    ) {
        self.told.extend(said.keys().map(|container| (container.clone(), now)));
        self.told.retain(|_, told| now.duration_since(*told) < linger);
        let mut conflicts = Vec::new();
        let mut tenants = BTreeMap::new();
        for container in self.told.keys() {
            let before = self.tenants.get(container).cloned().unwrap_or_default();
            let facts = said.get(container).into_iter().flatten().cloned();
            let (identity, more) = before.merge(facts.chain(self.identity.facts()));
            conflicts.extend(more);
            let identity = if identity == *before { before } else { Arc::new(identity) };
            tenants.insert(container.clone(), identity);
        }
        if tenants != *self.tenants {
            self.tenants = Arc::new(tenants);
        }
        self.refuse(conflicts, observer);
    }

    fn refuse(&mut self, conflicts: Vec<Conflict>, observer: &dyn SourceObserver) {
        for conflict in conflicts {
            let (source, attribute) = (conflict.source, conflict.attribute);
            if self.conflicts.len() < MAX_CONFLICTS && self.conflicts.insert(conflict) {
                observer.conflict(source, attribute);
            }
        }
    }

    /// Whether its task, or its ENI's id, is not known and may yet be.
    fn awaits_identity(&self, states: &BTreeMap<Source, State>) -> bool {
        let may_tell = |source: &Source| !matches!(states.get(source), None | Some(State::Down(_)));
        // A namespace is seen before those who made it say what it is for.
        if self.appeared.is_some() && self.task.is_none() && !self.sight.interface.on_host {
            return [Source::Docker, Source::Agent, Source::Introspection].iter().any(may_tell);
        }
        let mode = self.identity.get(Attribute::NetworkMode);
        let has_eni = self.sight.interface.on_host || self.task.is_some() && mode != Some("none");
        has_eni
            && self.identity.get(Attribute::InterfaceId).is_none()
            && if self.sight.interface.on_host || mode == Some("bridge") {
                may_tell(&Source::Imds)
            } else {
                [Source::Agent, Source::Imds, Source::Api, Source::File].iter().any(may_tell)
            }
    }

    /// Whether it is the inner end of a link to a bridge.
    pub(super) fn is_bridged(&self) -> bool {
        !self.sight.interface.on_host && self.identity.get(Attribute::NetworkMode) == Some("bridge")
    }

    /// What was seen of it.
    pub(super) fn sight(&self) -> &Sight {
        &self.sight
    }

    /// What is known of it.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its task.
    pub(super) fn task(&self) -> Option<&str> {
        self.task.as_ref().map(|(_, task)| &**task)
    }

    /// What contradicts that.
    pub(super) fn conflicts(&self) -> &BTreeSet<Conflict> {
        &self.conflicts
    }

    /// Whether it is there.
    pub(super) fn is_present(&self) -> bool {
        self.departed.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::tasks::LinkKind;

    #[derive(Debug, Default)]
    struct Refused(Mutex<Vec<(Source, Attribute)>>);

    impl SourceObserver for Refused {
        fn asked(&self, _: Source, _: bool) {}

        fn up(&self, _: Source, _: bool) {}

        fn conflict(&self, source: Source, attribute: Attribute) {
            self.0.lock().unwrap().push((source, attribute));
        }
    }

    fn of_host() -> Known {
        let interface = Interface {
            on_host: true,
            mac: "0a:00:00:00:00:01".parse().ok(),
            kind: LinkKind::Physical,
            ..Interface::example()
        };
        let sight = Sight { interface, appeared: None, containers: Vec::new(), name: None, alone: false };
        Known::new(sight, Instant::now())
    }

    #[test]
    fn tenants_keep_what_they_are_until_they_are_long_gone() {
        let fact = |source, attribute, value: &str| Fact { attribute, value: value.into(), source };
        let said = |facts: Vec<Fact>| BTreeMap::from([(Box::from("c1"), facts)]);
        let (linger, start) = (Duration::from_secs(10), Instant::now());
        let after = |seconds| (start + Duration::from_secs(seconds), linger);
        let refused = Refused::default();
        let mut host = of_host();
        let get = |host: &Known, attribute| {
            host.tenants.get("c1").and_then(|tenant| tenant.get(attribute).map(str::to_owned))
        };

        host.learn_tenants(&said(vec![fact(Source::Docker, Attribute::TaskId, "t1")]), after(0), &refused);
        assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));

        // A source of less weight does not unsay it, and is counted once.
        for seconds in [1, 2] {
            host.learn_tenants(
                &said(vec![fact(Source::Agent, Attribute::TaskId, "t2")]),
                after(seconds),
                &refused,
            );
            assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));
        }
        assert_eq!(*refused.0.lock().unwrap(), [(Source::Agent, Attribute::TaskId)]);

        // What is learned of the host later is told of its tenants, also of one that is gone.
        let eni = fact(Source::Imds, Attribute::InterfaceId, "eni-1");
        host.identity = Arc::new(Identity::default().merge([eni]).0);
        host.learn_tenants(&BTreeMap::new(), after(11), &refused);
        assert_eq!(get(&host, Attribute::InterfaceId).as_deref(), Some("eni-1"));
        assert_eq!(get(&host, Attribute::TaskId).as_deref(), Some("t1"));

        host.learn_tenants(&BTreeMap::new(), after(12), &refused);
        assert_eq!(get(&host, Attribute::TaskId), None);
    }
}
