//! Builds the report of a snapshot.

use std::collections::BTreeSet;

use super::{
    fields, missing,
    model::{ConflictReport, InterfaceReport, LeftOutReport, Report, SourceReport, TaskReport},
};
use crate::tasks::{
    Attribute, InterfaceKey, Source, State,
    knowledge::KnownInterface,
    selection::Reason,
    snapshot::{AttachState, LeftOut, Snapshot},
    view::TaskView,
};

impl Report {
    /// Builds the report of a snapshot.
    pub(in crate::tasks) fn new(snapshot: &Snapshot) -> Self {
        let sources = snapshot.sources.iter().map(|(source, state)| SourceReport {
            name: source.as_str().into(),
            up: *state == State::Up,
            detail: match state {
                State::Up => String::new(),
                state => state.to_string(),
            },
            tasks: snapshot.views.get(source).map_or(0, |view| view.tasks.len()),
        });
        let of_views = snapshot.views.values().flat_map(|view| &view.tasks).map(|task| &*task.id);
        let ids: BTreeSet<&str> =
            of_views.chain(snapshot.known.values().filter_map(KnownInterface::task)).collect();
        let of_none = snapshot.known.iter().filter(|(_, known)| known.task().is_none());
        Self {
            sources: sources.collect(),
            tasks: ids.into_iter().map(|id| task(snapshot, id)).collect(),
            interfaces: of_none.map(|(key, known)| interface(snapshot, *key, known)).collect(),
            missed: snapshot.missed,
            left_out: snapshot.left_out.values().filter_map(left_out).collect(),
        }
    }
}

fn left_out(it: &LeftOut) -> Option<LeftOutReport> {
    let reason = match it.reason {
        Some(Reason::Loopback) => return None,
        Some(reason) => reason.as_str(),
        None => "a link to the ECS agent: its packets never reach the ENI",
    };
    let netns = &it.interface.netns;
    Some(LeftOutReport {
        name: it.interface.name.to_string(),
        netns: netns.inode,
        netns_path: netns.path.display().to_string(),
        reason: reason.into(),
    })
}

fn task(snapshot: &Snapshot, id: &str) -> TaskReport {
    let views: Vec<(Source, &TaskView)> = snapshot
        .views
        .iter()
        .flat_map(|(source, view)| view.tasks.iter().map(move |task| (*source, task)))
        .filter(|(_, task)| &*task.id == id)
        .collect();
    let known: Vec<_> =
        snapshot.known.iter().filter(|(_, known)| known.task() == Some(id)).collect();
    let best = |attribute: Attribute| {
        let of_interface = known.iter().find_map(|(_, known)| known.identity().get(attribute));
        let of_sources = views
            .iter()
            .filter_map(|(source, task)| Some((attribute.rank(*source), task.get(attribute)?)));
        of_interface.or_else(|| of_sources.min().map(|(_, value)| value)).unwrap_or("").to_owned()
    };
    let mode = best(Attribute::NetworkMode);
    let here = views.iter().any(|(source, _)| *source == Source::Docker);
    let state = match mode.as_str() {
        _ if !known.is_empty() => "present",
        "none" if here => "none",
        "host" if here => "host",
        _ if here => "waiting",
        _ => "absent",
    };
    let mut containers: Vec<String> = Vec::new();
    for container in views.iter().flat_map(|(_, task)| &task.containers).filter(|it| !it.is_pause())
    {
        if !containers.iter().any(|name| **name == *container.name) {
            containers.push(container.name.to_string());
        }
    }
    TaskReport {
        id: id.into(),
        service: best(Attribute::ServiceName),
        mode,
        state: state.into(),
        sources: views.iter().map(|(source, _)| source.as_str().into()).collect(),
        containers,
        fields: fields::of_task(&views),
        enis: fields::of_enis(&views),
        addresses: fields::addresses(&views),
        interfaces: known
            .into_iter()
            .map(|(key, known)| interface(snapshot, *key, known))
            .collect(),
    }
}

fn interface(snapshot: &Snapshot, key: InterfaceKey, known: &KnownInterface) -> InterfaceReport {
    let seen = &known.seen().interface;
    let attach = match snapshot.attached.as_ref().map(|attached| attached.get(&key)) {
        Some(Some(AttachState::Observed)) => "observed".into(),
        Some(Some(AttachState::Detached(reason))) => format!("detached: {reason}"),
        Some(Some(AttachState::Failed(reason))) => format!("failed: {reason}"),
        Some(None) | None => "not observed".into(),
    };
    InterfaceReport {
        name: seen.name.to_string(),
        netns: key.netns,
        netns_path: seen.netns.path.display().to_string(),
        mac: seen.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        addresses: seen.addresses.iter().map(|network| network.addr().to_string()).collect(),
        attach,
        fields: fields::of_identity(known.identity()),
        conflicts: known
            .conflicts()
            .iter()
            .map(|conflict| ConflictReport {
                field: conflict.attribute.as_str().into(),
                source: conflict.source.as_str().into(),
                value: conflict.value.to_string(),
            })
            .collect(),
        missing: missing::lines(snapshot, known),
    }
}
