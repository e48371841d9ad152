//! Missing fields of an interface, with reasons and remedies.

use crate::tasks::{
    Attribute, Source, State, knowledge::KnownInterface, snapshot::Snapshot, view::View,
};

/// A line for each group of missing fields: the sources that could provide them, why each did not,
/// and the remedy.
pub(super) fn lines(snapshot: &Snapshot, known: &KnownInterface) -> Vec<String> {
    use Source::{Agent, Api, File, Imds, Introspection, Tmds};
    let is_missing = |attribute: &Attribute| known.identity().get(*attribute).is_none();
    let on_host = known.seen().interface.on_host;
    let own_eni = known.task().is_some() && !known.is_bridged();
    let of_instance: &[Source] = &[Imds];
    let of_eni: &[Source] = if own_eni { &[Agent, Imds, Api, File] } else { of_instance };
    let of_subnet: &[Source] = if own_eni { &[Imds, Api, File] } else { of_instance };
    let is_listed = |sources: &[Source]| {
        let has = |view: &View| view.tasks.iter().any(|task| Some(&*task.id) == known.task());
        sources.iter().any(|source| snapshot.views.get(source).is_some_and(|view| has(view)))
    };
    let mut lines = Vec::new();
    let mut line = |names: &[Attribute], sources: &[Source], remedy: &str| {
        let names: Vec<_> =
            names.iter().filter(|name| is_missing(name)).map(|name| name.as_str()).collect();
        if !names.is_empty() {
            let reasons: Vec<_> = sources.iter().map(|source| reason(snapshot, *source)).collect();
            lines.push(format!("no {}: {}; {remedy}", names.join(", "), reasons.join("; ")));
        }
    };
    if own_eni || on_host || known.is_bridged() {
        let remedy = if own_eni {
            "let observer read the agent's state (--agent-data) or call ecs:DescribeTasks, or give it --tasks-file"
        } else {
            "let observer reach the instance metadata service (--imds-url)"
        };
        line(&[Attribute::InterfaceId], of_eni, remedy);
        line(
            &[Attribute::SubnetId],
            of_subnet,
            "let observer reach the instance metadata service (--imds-url)",
        );
        line(
            &[Attribute::VpcId, Attribute::InstanceId, Attribute::AzId],
            of_instance,
            "let observer reach the instance metadata service (--imds-url)",
        );
    }
    if known.task().is_some() {
        line(
            &[
                Attribute::TaskArn,
                Attribute::TaskDefinitionArn,
                Attribute::ClusterArn,
                Attribute::ContainerId,
            ],
            &[Source::Docker, Introspection, Tmds, Agent],
            "let observer reach Docker (--docker-socket) or the ECS agent (--introspection-url)",
        );
        line(
            &[Attribute::ContainerInstanceArn],
            &[Introspection, Agent],
            "let observer reach the ECS agent (--introspection-url)",
        );
        // A standalone task has no service. A source that lists the task without a service has said
        // so.
        if !is_listed(&[Tmds, Agent, Api, File]) {
            line(
                &[Attribute::ServiceName],
                &[Tmds, Agent],
                "let observer reach the task metadata endpoint (--tmds-url)",
            );
        }
    }
    lines
}

/// The reason why a source did not provide a field.
fn reason(snapshot: &Snapshot, source: Source) -> String {
    let name = source.as_str();
    match snapshot.sources.get(&source) {
        None => format!("{name} is turned off"),
        Some(State::Up) if source == Source::Imds => {
            format!("{name} does not list this MAC, as it lists no branch ENI")
        }
        Some(State::Up) => format!("{name} does not know"),
        Some(State::Starting) => format!("{name} has not answered yet"),
        Some(State::Down(reason)) => format!("{name} does not answer ({reason})"),
    }
}
