//! What `observer tasks` and the daemon's page for it say.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    /// Reads one.
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

    /// An interface by its MAC address, of whatever task.
    pub fn interface(&self, mac: &str) -> Option<&Value> {
        let of_tasks = Self::list(&self.0, "tasks").iter().flat_map(|task| Self::list(task, "interfaces"));
        of_tasks.chain(Self::list(&self.0, "interfaces")).find(|interface| interface["mac"] == mac)
    }

    /// What is known of an interface: value and source of a field, empty where it is not known.
    pub fn field(&self, mac: &str, name: &str) -> (&str, &str) {
        let field = self.interface(mac).map(|interface| &interface["fields"][name]);
        let text = |key| field.and_then(|field| field[key].as_str()).unwrap_or("");
        (text("value"), text("source"))
    }

    /// Interfaces that were gone before they could be observed.
    pub fn missed(&self) -> u64 {
        self.0["missed"].as_u64().unwrap_or_default()
    }

    /// The lines about what is missing of an interface.
    pub fn missing(&self, mac: &str) -> Vec<&str> {
        let lines = self.interface(mac).map_or(&[][..], |interface| Self::list(interface, "missing"));
        lines.iter().filter_map(Value::as_str).collect()
    }
}
