use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::values::HttpUrl;
use crate::tasks::{Endpoint, PROC, Source};

/// Settings of the sources that identify namespaces, interfaces and tasks.
#[derive(Clone, Debug, Args, Serialize)]
#[command(next_help_heading = "Identity")]
#[serde(rename_all = "kebab-case")]
pub struct IdentitySettings {
    /// Identity sources to query; may be given several times [default: all that respond]
    #[arg(long, value_name = "NAME", env = "OBSERVER_SOURCE", value_delimiter = ',')]
    pub source: Vec<Source>,
    /// Folder of network namespace files, or /proc for the namespaces of running processes; may be
    /// given several times
    #[arg(
        long,
        value_name = "DIR",
        env = "OBSERVER_NETNS_DIR",
        value_delimiter = ',',
        default_values = ["/run/netns", "/run/docker/netns", PROC]
    )]
    pub netns_dir: Vec<PathBuf>,
    /// Socket of the Docker Engine
    #[arg(
        long,
        value_name = "PATH",
        env = "OBSERVER_DOCKER_SOCKET",
        default_value = "/var/run/docker.sock"
    )]
    pub docker_socket: PathBuf,
    /// Folder of the ECS agent's state
    #[arg(
        long,
        value_name = "DIR",
        env = "OBSERVER_AGENT_DATA",
        default_value = "/var/lib/ecs/data"
    )]
    pub agent_data: PathBuf,
    /// URL of the ECS agent's introspection endpoint
    #[arg(
        long,
        value_name = "URL",
        env = "OBSERVER_INTROSPECTION_URL",
        default_value = "http://127.0.0.1:51678"
    )]
    pub introspection_url: HttpUrl,
    /// URL of the task metadata endpoint, as seen from the host
    #[arg(
        long,
        value_name = "URL",
        env = "OBSERVER_TMDS_URL",
        default_value = "http://127.0.0.1:51679"
    )]
    pub tmds_url: HttpUrl,
    /// URL of the instance metadata service
    #[arg(
        long,
        value_name = "URL",
        env = "OBSERVER_IMDS_URL",
        default_value = "http://169.254.169.254"
    )]
    pub imds_url: HttpUrl,
    /// URL of the Amazon ECS API [default: AWS's, in the region of the tasks]
    #[arg(long, value_name = "URL", env = "OBSERVER_API_URL")]
    pub api_url: Option<HttpUrl>,
    /// Saved output of `aws ecs describe-tasks`, which maps MAC addresses to ENIs and tasks
    #[arg(long, value_name = "FILE", env = "OBSERVER_TASKS_FILE")]
    pub tasks_file: Option<PathBuf>,
}

impl IdentitySettings {
    /// True if a source is to be queried. [`Config`](crate::config::Config) has replaced an empty
    /// list by all sources.
    pub fn queries(&self, source: Source) -> bool {
        self.source.contains(&source)
    }

    /// Folders of namespace files, if namespaces are to be observed.
    pub fn netns_dirs(&self) -> &[PathBuf] {
        if self.queries(Source::Netns) { &self.netns_dir } else { &[] }
    }

    /// Socket of the Docker Engine. For this and the following sources, `None` if it is not to be
    /// queried.
    pub fn docker(&self) -> Option<&Path> {
        self.queries(Source::Docker).then_some(&*self.docker_socket)
    }

    /// Folder of the ECS agent's state.
    pub fn agent(&self) -> Option<&Path> {
        self.queries(Source::Agent).then_some(&*self.agent_data)
    }

    /// The ECS agent's introspection endpoint.
    pub fn introspection(&self) -> Option<&str> {
        self.queries(Source::Introspection).then(|| self.introspection_url.as_str())
    }

    /// The task metadata endpoint.
    pub fn tmds(&self) -> Option<&str> {
        self.queries(Source::Tmds).then(|| self.tmds_url.as_str())
    }

    /// The instance metadata service.
    pub fn imds(&self) -> Option<&str> {
        self.queries(Source::Imds).then(|| self.imds_url.as_str())
    }

    /// The Amazon ECS API.
    pub fn api(&self) -> Option<Endpoint> {
        let endpoint =
            || self.api_url.as_ref().map_or(Endpoint::Aws, |url| Endpoint::At(url.as_str().into()));
        self.queries(Source::Api).then(endpoint)
    }

    /// Saved output of `aws ecs describe-tasks`.
    pub fn file(&self) -> Option<&Path> {
        self.tasks_file.as_deref().filter(|_| self.queries(Source::File))
    }
}
