//! Identities of interfaces, updated as the views of the sources arrive.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Appeared, Attribute, Conflict, Fact, Identity, Interface, InterfaceKey, Mac, Observed, Source,
    SourceObserver, State,
    resolve::{Evidence, MatchedBy, NetnsName, Views, resolve, tenants},
    sources::SourceUpdate,
    view::View,
};

/// Views of the sources, and the identities resolved from them.
#[derive(Debug)]
pub(super) struct Knowledge {
    views: Views,
    /// Start of the last answered request to the introspection endpoint. Its addresses apply to
    /// interfaces that are older than the request.
    introspected: Option<Instant>,
    states: BTreeMap<Source, State>,
    known: BTreeMap<InterfaceKey, KnownInterface>,
    observer: Arc<dyn SourceObserver>,
}

/// An interface and its identity.
#[derive(Clone, Debug)]
pub(super) struct KnownInterface {
    seen: SeenInterface,
    since: Instant,
    /// First appearance of the interface, if it was chosen to be observed right then.
    appeared: Option<Appeared>,
    task: Option<(MatchedBy, Box<str>)>,
    identity: Arc<Identity>,
    conflicts: BTreeSet<Conflict>,
    /// For an interface of the host: identities of the containers that may send through it, by
    /// container id.
    tenants: Arc<BTreeMap<Box<str>, Arc<Identity>>>,
    /// Time at which a source last listed each of these containers.
    listed: BTreeMap<Box<str>, Instant>,
    /// Time at which the interface was found to be gone; `None` while it exists.
    departed: Option<Instant>,
}

/// An interface that is chosen later than this after its first appearance was not to be observed
/// before.
const CHOSEN_LATE: Duration = Duration::from_secs(1);
/// Largest number of conflicts that are kept and counted for one interface.
const MAX_CONFLICTS: usize = 100;

/// An interface as the watch sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenInterface {
    pub(super) interface: Interface,
    pub(super) appeared: Option<Appeared>,
    /// Ids of the containers in its namespace.
    pub(super) containers: Vec<Box<str>>,
    /// Name of its namespace's file, if that names a task.
    pub(super) name: Option<NetnsName>,
    /// True if no other interface of its namespace can be the ENI.
    pub(super) alone: bool,
}

impl Knowledge {
    /// Starts with the views that are available already.
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

    /// Applies an update of a source. Returns true if identities or the report may change.
    pub(super) fn take(&mut self, source: Source, update: SourceUpdate) -> bool {
        match update {
            SourceUpdate::View(view, asked) => {
                if source == Source::Introspection {
                    self.introspected = Some(asked);
                }
                let same = self.views.get(&source).is_some_and(|before| **before == *view);
                self.views.insert(source, Arc::from(view));
                // An unchanged answer of the introspection endpoint may apply to interfaces that
                // were too young before.
                !same || source == Source::Introspection
            }
            SourceUpdate::State(state) => {
                let before = self.states.insert(source, state.clone()).unwrap_or_default();
                self.observer.up(source, state == State::Up);
                match (&before, &state) {
                    (State::Up, State::Down(reason)) => {
                        tracing::warn!(source = source.as_str(), %reason, "a source no longer answers; its last answer stays in force");
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

    /// Health of each source.
    pub(super) fn states(&self) -> &BTreeMap<Source, State> {
        &self.states
    }

    /// The latest view of each source.
    pub(super) fn views(&self) -> &Views {
        &self.views
    }

    /// True if a source lists an ENI for this interface or its MAC address.
    pub(super) fn names(&self, key: InterfaceKey, mac: Option<Mac>) -> bool {
        let Some(mac) = mac else { return false };
        self.views.values().any(|view| {
            view.enis.iter().any(|(asked, _)| *asked == key)
                || view.tasks.iter().any(|task| task.enis.iter().any(|eni| eni.mac == mac))
        })
    }

    /// True if the MAC address belongs to a trunk interface.
    pub(super) fn is_trunk(&self, mac: Option<Mac>) -> bool {
        mac.is_some_and(|mac| self.views.values().any(|view| view.trunks.contains(&mac)))
    }

    /// Identifies all interfaces. Returns those that exist, and those that went away less than
    /// `linger` ago. Forgets interfaces that are left out now.
    pub(super) fn identify(
        &mut self,
        seen: BTreeMap<InterfaceKey, SeenInterface>,
        is_left_out: impl Fn(&InterfaceKey) -> bool,
        linger: Duration,
    ) -> (Vec<Observed>, Vec<Observed>) {
        let now = Instant::now();
        self.known.retain(|key, _| !is_left_out(key));
        for (key, known) in &mut self.known {
            if !seen.contains_key(key) {
                known.departed.get_or_insert(now);
            }
        }
        self.known
            .retain(|_, known| known.departed.is_none_or(|left| now.duration_since(left) < linger));
        for (key, seen) in seen {
            let known = self
                .known
                .get_mut(&key)
                .filter(|known| known.seen.interface.mac == seen.interface.mac);
            match known {
                Some(known) => known.seen = seen,
                // A changed MAC address means another ENI.
                None => drop(self.known.insert(key, KnownInterface::new(seen, now))),
            }
        }
        let (mut present, mut departed) = (Vec::new(), Vec::new());
        let has_tenants = self.known.values().any(|known| known.seen.interface.on_host);
        let tenants = if has_tenants { tenants(&self.views) } else { BTreeMap::new() };
        for (key, known) in &mut self.known {
            known.learn(*key, &self.views, self.introspected, &*self.observer);
            if known.seen.interface.on_host {
                known.learn_tenants(&tenants, (now, linger), &*self.observer);
            }
            let observed = Observed {
                key: *key,
                interface: known.seen.interface.clone(),
                appeared: known.appeared,
                identity: Arc::clone(&known.identity),
                tenants: Arc::clone(&known.tenants),
                awaits_identity: known.awaits_identity(&self.states),
                older: known.seen.appeared.is_none(),
            };
            if known.departed.is_none() { present.push(observed) } else { departed.push(observed) }
        }
        (present, departed)
    }

    /// All interfaces, also those that went away recently.
    pub(super) fn known(&self) -> impl Iterator<Item = (&InterfaceKey, &KnownInterface)> {
        self.known.iter()
    }
}

impl KnownInterface {
    fn new(seen: SeenInterface, since: Instant) -> Self {
        let appeared = seen.appeared.filter(|it| since.duration_since(it.at) < CHOSEN_LATE);
        Self {
            seen,
            since,
            appeared,
            task: None,
            identity: Arc::default(),
            conflicts: BTreeSet::new(),
            tenants: Arc::default(),
            listed: BTreeMap::new(),
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
        let evidence = Evidence {
            containers: &self.seen.containers,
            name: self.seen.name.as_ref(),
            fresh: introspected.is_some_and(|asked| asked >= self.since),
            alone: self.seen.alone,
            task: self.task.as_ref(),
        };
        let resolution = resolve(key, &self.seen.interface, evidence, views);
        let mut conflicts = resolution.conflicts;
        let before = match (&self.task, resolution.task) {
            (Some((old, task)), Some((new, other))) if *task != other => {
                let conflict =
                    |value| Conflict { attribute: Attribute::TaskId, source: Source::Netns, value };
                if new >= *old {
                    // The new match is no stronger, so the earlier task stays.
                    conflicts.push(conflict(other));
                    self.add_conflicts(conflicts, observer);
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
        self.add_conflicts(conflicts, observer);
    }

    /// Updates the containers of a host interface. Containers that are gone are kept for `linger`,
    /// because their flows may still be recorded.
    fn learn_tenants(
        &mut self,
        facts: &BTreeMap<Box<str>, Vec<Fact>>,
        (now, linger): (Instant, Duration),
        observer: &dyn SourceObserver,
    ) {
        self.listed.extend(facts.keys().map(|container| (container.clone(), now)));
        self.listed.retain(|_, listed| now.duration_since(*listed) < linger);
        let mut conflicts = Vec::new();
        let mut tenants = BTreeMap::new();
        for container in self.listed.keys() {
            let before = self.tenants.get(container).cloned().unwrap_or_default();
            let of_container = facts.get(container).into_iter().flatten().cloned();
            let (identity, more) = before.merge(of_container.chain(self.identity.facts()));
            conflicts.extend(more);
            let identity = if identity == *before { before } else { Arc::new(identity) };
            tenants.insert(container.clone(), identity);
        }
        if tenants != *self.tenants {
            self.tenants = Arc::new(tenants);
        }
        self.add_conflicts(conflicts, observer);
    }

    fn add_conflicts(&mut self, conflicts: Vec<Conflict>, observer: &dyn SourceObserver) {
        for conflict in conflicts {
            let (source, attribute) = (conflict.source, conflict.attribute);
            if self.conflicts.len() < MAX_CONFLICTS && self.conflicts.insert(conflict) {
                observer.conflict(source, attribute);
            }
        }
    }

    /// True while its task or its ENI id is unknown and a source may still provide it.
    fn awaits_identity(&self, states: &BTreeMap<Source, State>) -> bool {
        let may_answer =
            |source: &Source| !matches!(states.get(source), None | Some(State::Down(_)));
        // A namespace may be found before any source lists its task.
        if self.appeared.is_some() && self.task.is_none() && !self.seen.interface.on_host {
            return [Source::Docker, Source::Agent, Source::Introspection].iter().any(may_answer);
        }
        let mode = self.identity.get(Attribute::NetworkMode);
        let has_eni = self.seen.interface.on_host || self.task.is_some() && mode != Some("none");
        has_eni
            && self.identity.get(Attribute::InterfaceId).is_none()
            && if self.seen.interface.on_host || mode == Some("bridge") {
                may_answer(&Source::Imds)
            } else {
                [Source::Agent, Source::Imds, Source::Api, Source::File].iter().any(may_answer)
            }
    }

    /// True for the interface of a container on a bridge.
    pub(super) fn is_bridged(&self) -> bool {
        !self.seen.interface.on_host && self.identity.get(Attribute::NetworkMode) == Some("bridge")
    }

    /// The interface as the watch last saw it.
    pub(super) fn seen(&self) -> &SeenInterface {
        &self.seen
    }

    /// Its identity.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Id of its task.
    pub(super) fn task(&self) -> Option<&str> {
        self.task.as_ref().map(|(_, task)| &**task)
    }

    /// Values that were rejected in favour of the identity.
    pub(super) fn conflicts(&self) -> &BTreeSet<Conflict> {
        &self.conflicts
    }

    /// True while the interface exists.
    pub(super) fn is_present(&self) -> bool {
        self.departed.is_none()
    }
}

#[cfg(test)]
mod tests;
