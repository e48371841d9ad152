//! What `observer tasks` shows: every task and interface, who said what, and what is missing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
};

use serde::{Deserialize, Serialize};

use super::{
    Attribute, InterfaceKey, Source, State,
    board::{AttachState, Latest},
    knowledge::Known,
    selection::Reason,
    told::{self, AddressReport, EniReport},
    view::{TaskView, View},
    watch::LeftOut,
};

/// All that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who is asked.
    pub sources: Vec<SourceReport>,
    /// Tasks that are on this host, or that a source says are.
    pub tasks: Vec<TaskReport>,
    /// Interfaces of no task that is known.
    pub interfaces: Vec<InterfaceReport>,
    /// Interfaces that were gone before they could be observed.
    pub missed: u64,
    /// Interfaces that are not to be observed, but for loopbacks.
    #[serde(default)]
    pub left_out: Vec<LeftOutReport>,
}

/// An interface that is not to be observed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOutReport {
    /// Its name.
    pub name: String,
    /// Inode of its namespace.
    pub netns: u64,
    /// A file of it.
    pub netns_path: String,
    /// Why it is not.
    pub reason: String,
}

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// As `--source` takes it.
    pub name: String,
    /// Whether its last answer was one.
    pub up: bool,
    /// Why not.
    pub detail: String,
    /// How many tasks it tells of.
    pub tasks: usize,
}

/// A task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskReport {
    /// Its id.
    pub id: String,
    /// Its service; empty where it has none or it is not known.
    pub service: String,
    /// Its network mode; empty where it is not known.
    pub mode: String,
    /// `present`, `waiting` for its interface, `host`: on the host's interfaces, `none`: nothing to attach, or
    /// `absent`: a source tells of it, and the host does not have it.
    pub state: String,
    /// Sources that tell of it.
    pub sources: Vec<String>,
    /// Names of its containers.
    pub containers: Vec<String>,
    /// Fields that sources tell of the task, by name.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldReport>,
    /// Its ENIs, by what sources tell.
    #[serde(default)]
    pub enis: Vec<EniReport>,
    /// Addresses of its ENI, from sources that tell no more of it.
    #[serde(default)]
    pub addresses: Vec<AddressReport>,
    /// Its interfaces on this host.
    pub interfaces: Vec<InterfaceReport>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// Its name.
    pub name: String,
    /// Inode of its namespace.
    pub netns: u64,
    /// A file of it.
    pub netns_path: String,
    /// Its MAC address; empty where it has none.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// `observed`, `detached` or `failed` with a reason, or `not observed`.
    pub attach: String,
    /// What is known, by name.
    pub fields: BTreeMap<String, FieldReport>,
    /// What contradicts that.
    pub conflicts: Vec<ConflictReport>,
    /// What is not known and why, a line each.
    pub missing: Vec<String>,
}

/// A field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldReport {
    /// What is known.
    pub value: String,
    /// Who said it.
    pub source: String,
}

/// What was not believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictReport {
    /// About what.
    pub field: String,
    /// Who said it.
    pub source: String,
    /// What it said.
    pub value: String,
}

impl Report {
    pub(super) fn new(latest: &Latest) -> Self {
        let sources = latest.sources.iter().map(|(source, state)| SourceReport {
            name: source.as_str().into(),
            up: *state == State::Up,
            detail: match state {
                State::Up => String::new(),
                state => state.to_string(),
            },
            tasks: latest.views.get(source).map_or(0, |view| view.tasks.len()),
        });
        let of_views = latest.views.values().flat_map(|view| &view.tasks).map(|task| &*task.id);
        let ids: BTreeSet<&str> = of_views.chain(latest.known.values().filter_map(Known::task)).collect();
        let of_none = latest.known.iter().filter(|(_, known)| known.task().is_none());
        Self {
            sources: sources.collect(),
            tasks: ids.into_iter().map(|id| task(latest, id)).collect(),
            interfaces: of_none.map(|(key, known)| interface(latest, *key, known)).collect(),
            missed: latest.missed,
            left_out: latest.left_out.values().filter_map(left_out).collect(),
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

fn task(latest: &Latest, id: &str) -> TaskReport {
    let told: Vec<(Source, &TaskView)> = latest
        .views
        .iter()
        .flat_map(|(source, view)| view.tasks.iter().map(move |task| (*source, task)))
        .filter(|(_, task)| &*task.id == id)
        .collect();
    let known: Vec<_> = latest.known.iter().filter(|(_, known)| known.task() == Some(id)).collect();
    let best = |attribute: Attribute| {
        let of_interface = known.iter().find_map(|(_, known)| known.identity().get(attribute));
        let of_sources =
            told.iter().filter_map(|(source, task)| Some((attribute.rank(*source), task.get(attribute)?)));
        of_interface.or_else(|| of_sources.min().map(|(_, value)| value)).unwrap_or("").to_owned()
    };
    let mode = best(Attribute::NetworkMode);
    let here = told.iter().any(|(source, _)| *source == Source::Docker);
    let state = match mode.as_str() {
        _ if !known.is_empty() => "present",
        "none" if here => "none",
        "host" if here => "host",
        _ if here => "waiting",
        _ => "absent",
    };
    let mut containers: Vec<String> = Vec::new();
    for container in told.iter().flat_map(|(_, task)| &task.containers).filter(|it| !it.is_pause()) {
        if !containers.iter().any(|name| **name == *container.name) {
            containers.push(container.name.to_string());
        }
    }
    TaskReport {
        id: id.into(),
        service: best(Attribute::ServiceName),
        mode,
        state: state.into(),
        sources: told.iter().map(|(source, _)| source.as_str().into()).collect(),
        containers,
        fields: told::fields(&told),
        enis: told::enis(&told),
        addresses: told::addresses(&told),
        interfaces: known.into_iter().map(|(key, known)| interface(latest, *key, known)).collect(),
    }
}

fn interface(latest: &Latest, key: InterfaceKey, known: &Known) -> InterfaceReport {
    let seen = &known.sight().interface;
    let attach = match latest.attached.as_ref().map(|attached| attached.get(&key)) {
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
        fields: known.identity().report(),
        conflicts: known
            .conflicts()
            .iter()
            .map(|conflict| ConflictReport {
                field: conflict.attribute.as_str().into(),
                source: conflict.source.as_str().into(),
                value: conflict.value.to_string(),
            })
            .collect(),
        missing: missing(latest, known),
    }
}

/// What is not known and why: who could have told, and why each did not.
fn missing(latest: &Latest, known: &Known) -> Vec<String> {
    use Source::{Agent, Api, File, Imds, Introspection, Tmds};
    let is_missing = |attribute: &Attribute| known.identity().get(*attribute).is_none();
    let on_host = known.sight().interface.on_host;
    let own_eni = known.task().is_some() && !known.is_bridged();
    let of_instance: &[Source] = &[Imds];
    let of_eni: &[Source] = if own_eni { &[Agent, Imds, Api, File] } else { of_instance };
    let of_place: &[Source] = if own_eni { &[Imds, Api, File] } else { of_instance };
    let spoken = |sources: &[Source]| {
        let has = |view: &View| view.tasks.iter().any(|task| Some(&*task.id) == known.task());
        sources.iter().any(|source| latest.views.get(source).is_some_and(|view| has(view)))
    };
    let mut lines = Vec::new();
    let mut line = |names: &[Attribute], sources: &[Source], mend: &str| {
        let names: Vec<_> = names.iter().filter(|name| is_missing(name)).map(|name| name.as_str()).collect();
        if !names.is_empty() {
            let reasons: Vec<_> = sources.iter().map(|source| reason(latest, *source)).collect();
            lines.push(format!("no {}: {}; {mend}", names.join(", "), reasons.join("; ")));
        }
    };
    if own_eni || on_host || known.is_bridged() {
        let mend = if own_eni {
            "let observer read the agent's state (--agent-data) or call ecs:DescribeTasks, or give it --tasks-file"
        } else {
            "let observer reach the instance metadata service (--imds-url)"
        };
        line(&[Attribute::InterfaceId], of_eni, mend);
        line(
            &[Attribute::SubnetId],
            of_place,
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
        // A standalone task has none, which whoever knows the task has said.
        if !spoken(&[Tmds, Agent, Api, File]) {
            line(
                &[Attribute::ServiceName],
                &[Tmds, Agent],
                "let observer reach the task metadata endpoint (--tmds-url)",
            );
        }
    }
    lines
}

/// Why a source did not tell.
fn reason(latest: &Latest, source: Source) -> String {
    let name = source.as_str();
    match latest.sources.get(&source) {
        None => format!("{name} is not asked"),
        Some(State::Up) if source == Source::Imds => {
            format!("{name} does not list this MAC, as it lists no branch ENI")
        }
        Some(State::Up) => format!("{name} does not know"),
        Some(State::Starting) => format!("{name} has not answered yet"),
        Some(State::Down(reason)) => format!("{name} does not answer ({reason})"),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.iter().map(|it| {
            let state = if it.up { "up" } else { "-" };
            vec![it.name.clone(), state.into(), it.tasks.to_string(), it.detail.clone()]
        });
        write_table(f, &["SOURCE", "STATE", "TASKS", ""], sources.map(|cells| (cells, Vec::new())))?;
        if !self.sources.is_empty() {
            writeln!(f)?;
        }
        let mut rows = Vec::new();
        for task in &self.tasks {
            let cells = |cells: [&str; 5]| {
                let mut row = vec![task.id.clone(), dash(&task.service), dash(&task.mode)];
                row.extend(cells.map(dash));
                row
            };
            if task.interfaces.is_empty() {
                rows.extend(task.rows_without_interface(cells));
            }
            for interface in &task.interfaces {
                let addresses = interface.addresses.join(",");
                let eni = interface.eni();
                let row = cells([&interface.name, eni, &interface.mac, &addresses, &interface.attach]);
                rows.push((row, interface.notes()));
            }
        }
        for interface in &self.interfaces {
            let mode = interface.fields.get(Attribute::NetworkMode.as_str()).map_or("", |field| &field.value);
            let addresses = interface.addresses.join(",");
            let cells = [
                "",
                "",
                mode,
                &interface.name,
                interface.eni(),
                &interface.mac,
                &addresses,
                &interface.attach,
            ];
            rows.push((cells.map(dash).to_vec(), interface.notes()));
        }
        let head = ["TASK", "SERVICE", "MODE", "INTERFACE", "ENI", "MAC", "ADDRESSES", "STATE"];
        write_table(f, &head, rows.into_iter())?;
        let left_out = self
            .left_out
            .iter()
            .map(|it| (vec![it.name.clone(), it.netns_path.clone(), it.reason.clone()], Vec::new()));
        if !self.left_out.is_empty() {
            writeln!(f)?;
        }
        write_table(f, &["LEFT OUT", "NAMESPACE", ""], left_out)?;
        if self.missed > 0 {
            writeln!(
                f,
                "\n{} interfaces were gone before they could be observed: each has a SKIPDATA record",
                self.missed
            )?;
        }
        Ok(())
    }
}

impl TaskReport {
    /// A row for each ENI that sources tell of, or a single one where there is none.
    fn rows_without_interface(
        &self,
        cells: impl Fn([&str; 5]) -> Vec<String>,
    ) -> Vec<(Vec<String>, Vec<String>)> {
        let mut rows: Vec<_> = self
            .enis
            .iter()
            .map(|eni| {
                let id = eni.get(Attribute::InterfaceId);
                (cells(["", id, &eni.mac, &eni.addresses(), &self.state]), told::lines(&eni.fields))
            })
            .collect();
        if rows.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(|it| &*it.address).collect();
            rows.push((cells(["", "", "", &addresses.join(","), &self.state]), Vec::new()));
        }
        if let Some((_, notes)) = rows.last_mut() {
            notes.extend(self.addresses.iter().map(|it| format!("by {}: address {}", it.source, it.address)));
            notes.extend(told::lines(&self.fields));
            notes.push(format!("told by {}", self.sources.join(", ")));
            notes.extend(self.note().map(Into::into));
        }
        rows
    }

    fn note(&self) -> Option<&'static str> {
        match self.state.as_str() {
            "none" => Some("it has no network: there is nothing to observe"),
            "host" => Some("it uses the host's interfaces: see there"),
            "waiting" => Some("its namespace has no interface yet"),
            "absent" => Some("this host has no interface of it"),
            _ => None,
        }
    }
}

impl InterfaceReport {
    fn eni(&self) -> &str {
        self.fields.get(Attribute::InterfaceId.as_str()).map_or("", |field| &field.value)
    }

    /// The lines below its row: where each field comes from, what contradicts it, what is missing.
    fn notes(&self) -> Vec<String> {
        let mut by_source = BTreeMap::<&str, Vec<&str>>::new();
        for (name, field) in &self.fields {
            by_source.entry(&field.source).or_default().push(name);
        }
        let mut notes: Vec<_> = by_source
            .into_iter()
            .map(|(source, names)| format!("by {source}: {}", names.join(", ")))
            .collect();
        notes.extend(self.conflicts.iter().map(|conflict| {
            format!("not believed: {} says {} = {}", conflict.source, conflict.field, conflict.value)
        }));
        notes.extend(self.missing.iter().cloned());
        notes
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// Characters of a cell at most.
const WIDEST: usize = 100;

/// A cell of a table: one word, so that rows can be split at spaces. Only the last column may hold several.
fn cell(text: &str, is_last: bool) -> String {
    let breaks = |c: char| c.is_control() || c.is_whitespace() && (c != ' ' || !is_last);
    let mut cell = text.replace(breaks, "_");
    if let Some((end, _)) = cell.char_indices().nth(WIDEST).filter(|_| !is_last) {
        cell.truncate(end);
        cell.push('…');
    }
    cell
}

/// A text on one line.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control() || c.is_whitespace() && c != ' ', " ")
}

/// Columns as wide as their widest cell; below each row its notes, each on a line.
fn write_table(
    f: &mut fmt::Formatter<'_>,
    head: &[&str],
    rows: impl Iterator<Item = (Vec<String>, Vec<String>)>,
) -> fmt::Result {
    let last = head.len() - 1;
    let cells = |cells: Vec<String>| -> Vec<String> {
        cells.iter().enumerate().map(|(column, text)| cell(text, column == last)).collect()
    };
    let rows: Vec<_> = rows.map(|(row, notes)| (cells(row), notes)).collect();
    if rows.is_empty() {
        return Ok(());
    }
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|(cells, _)| cells).chain([&head]);
        cells.map(|cells| cells.get(column).map_or(0, |cell| cell.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            // The last one may be longer than a width can be.
            let width = if column == last { 0 } else { *width };
            let _ = write!(line, "{cell:<width$}  ");
        }
        line.trim_end().to_owned()
    };
    writeln!(f, "{}", line(&head))?;
    for (cells, notes) in &rows {
        writeln!(f, "{}", line(cells))?;
        for note in notes {
            writeln!(f, "    {}", one_line(note))?;
        }
    }
    Ok(())
}
