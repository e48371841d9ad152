//! Text form of the report: tables of sources, interfaces and left-out interfaces.

use std::{collections::BTreeMap, fmt};

use super::{
    fields,
    model::{InterfaceReport, Report, TaskReport},
    table::write_table,
};
use crate::tasks::Attribute;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.sources.iter().map(|it| {
            let state = if it.up { "up" } else { "-" };
            vec![it.name.clone(), state.into(), it.tasks.to_string(), it.detail.clone()]
        });
        write_table(
            f,
            &["SOURCE", "STATE", "TASKS", ""],
            sources.map(|cells| (cells, Vec::new())),
        )?;
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
                let row =
                    cells([&interface.name, eni, &interface.mac, &addresses, &interface.attach]);
                rows.push((row, interface.notes()));
            }
        }
        for interface in &self.interfaces {
            let mode = fields::value(&interface.fields, Attribute::NetworkMode);
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
        let left_out = self.left_out.iter().map(|it| {
            (vec![it.name.clone(), it.netns_path.clone(), it.reason.clone()], Vec::new())
        });
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
    /// A row for each ENI that the sources list, or one row if they list none.
    fn rows_without_interface(
        &self,
        cells: impl Fn([&str; 5]) -> Vec<String>,
    ) -> Vec<(Vec<String>, Vec<String>)> {
        let mut rows: Vec<_> = self
            .enis
            .iter()
            .map(|eni| {
                let id = fields::value(&eni.fields, Attribute::InterfaceId);
                (
                    cells(["", id, &eni.mac, &fields::eni_addresses(eni), &self.state]),
                    fields::lines(&eni.fields),
                )
            })
            .collect();
        if rows.is_empty() {
            let addresses: Vec<_> = self.addresses.iter().map(|it| &*it.address).collect();
            rows.push((cells(["", "", "", &addresses.join(","), &self.state]), Vec::new()));
        }
        if let Some((_, notes)) = rows.last_mut() {
            notes.extend(
                self.addresses.iter().map(|it| format!("by {}: address {}", it.source, it.address)),
            );
            notes.extend(fields::lines(&self.fields));
            notes.push(format!("listed by {}", self.sources.join(", ")));
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
        fields::value(&self.fields, Attribute::InterfaceId)
    }

    /// Lines below the row: the source of each field, conflicts, missing fields.
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
            format!("rejected: {} gives {} = {}", conflict.source, conflict.field, conflict.value)
        }));
        notes.extend(self.missing.iter().cloned());
        notes
    }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}
