//! The configuration as a TOML file.

use std::{fmt::Write as _, path::Path};

use super::{
    Config,
    text::{list, quoted},
};
use crate::tasks::Endpoint;

impl Config {
    /// Prints the configuration as a TOML file for `--config`.
    pub fn to_toml(&self) -> String {
        let name = |value: &dyn std::fmt::Debug| format!("\"{value:?}\"").to_lowercase();
        let mut text = self.output.to_toml();
        let mut line = |key: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        if let Some(delivery) = &self.delivery {
            delivery.to_toml(&mut line);
        }
        if let Some(file) = &self.ca_bundle {
            line("ca-bundle", quoted(file));
        }
        line("window", self.window.to_string());
        line("stop-timeout", self.stop_timeout.as_secs().to_string());
        line("listen", format!("\"{}\"", self.listen));
        line("hook", name(&self.hook));
        line("xdp-mode", name(&self.xdp_mode));
        line("xdp-changes", name(&self.xdp_changes));
        line("attach", name(&self.attach));
        // If not given, `run` derives them from the limits of the host that it starts on.
        if let Some(max_flows) = self.max_flows {
            line("max-flows", max_flows.to_string());
        }
        line("drops", name(&self.drops));
        if let Some(size) = self.flow_memory {
            line("flow-memory", format!("\"{}B\"", size.as_u64()));
        }
        line("source", list(self.sources()));
        line("netns-dir", list(self.netns_dirs.iter().map(|directory| quoted(directory))));
        for (key, path) in [("docker-socket", &self.docker_socket), ("agent-data", &self.agent_data)] {
            if let Some(path) = path {
                line(key, quoted(path));
            }
        }
        for (key, url) in [
            ("introspection-url", &self.introspection_url),
            ("tmds-url", &self.tmds_url),
            ("imds-url", &self.imds_url),
        ] {
            if let Some(url) = url {
                line(key, quoted(Path::new(url)));
            }
        }
        if let Some(Endpoint::At(url)) = &self.api {
            line("api-url", quoted(Path::new(url)));
        }
        if let Some(file) = &self.tasks_file {
            line("tasks-file", quoted(file));
        }
        line("state-dir", quoted(&self.state_dir));
        line("bpffs", quoted(&self.bpffs));
        line("log-level", name(&self.log_level));
        text
    }
    /// Names of the enabled sources, quoted.
    fn sources(&self) -> Vec<String> {
        let sources = [
            ("docker", self.docker_socket.is_some()),
            ("netns", self.netns),
            ("host", self.host),
            ("agent", self.agent_data.is_some()),
            ("introspection", self.introspection_url.is_some()),
            ("tmds", self.tmds_url.is_some()),
            ("imds", self.imds_url.is_some()),
            ("api", self.api.is_some()),
            ("file", self.tasks_file.is_some()),
        ];
        let enabled = sources.into_iter().filter(|(_, is_enabled)| *is_enabled);
        enabled.map(|(name, _)| format!("\"{name}\"")).collect()
    }
}
