//! The report about tasks, from `observer tasks` and from the daemon's HTTP page.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A parsed report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    /// Parses a report.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(Self(serde_json::from_str(text).with_context(|| text.to_owned())?))
    }

    fn list<'a>(of: &'a Value, key: &str) -> &'a [Value] {
        of[key].as_array().map_or(&[], Vec::as_slice)
    }

    /// A task by its id.
    pub fn task(&self, id: &str) -> Option<&Value> {
        Self::list(&self.0, "tasks").iter().find(|task| task["id"] == id)
    }

    /// A source by its name.
    pub fn source(&self, name: &str) -> Option<&Value> {
        Self::list(&self.0, "sources").iter().find(|source| source["name"] == name)
    }

    /// An interface of any task, by its MAC address.
    pub fn interface(&self, mac: &str) -> Option<&Value> {
        let of_tasks =
            Self::list(&self.0, "tasks").iter().flat_map(|task| Self::list(task, "interfaces"));
        of_tasks.chain(Self::list(&self.0, "interfaces")).find(|interface| interface["mac"] == mac)
    }

    /// Value and source of an interface's field; empty if unknown.
    pub fn field(&self, mac: &str, name: &str) -> (&str, &str) {
        let field = self.interface(mac).map(|interface| &interface["fields"][name]);
        let text = |key| field.and_then(|field| field[key].as_str()).unwrap_or("");
        (text("value"), text("source"))
    }

    /// Number of interfaces that were removed before they could be observed.
    pub fn missed(&self) -> u64 {
        self.0["missed"].as_u64().unwrap_or_default()
    }

    /// Messages about missing fields of an interface.
    pub fn missing(&self, mac: &str) -> Vec<&str> {
        let lines =
            self.interface(mac).map_or(&[][..], |interface| Self::list(interface, "missing"));
        lines.iter().filter_map(Value::as_str).collect()
    }
}
