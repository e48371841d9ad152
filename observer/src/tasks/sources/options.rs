//! Addresses of the sources.

use std::path::PathBuf;

use super::file::TasksFile;
use crate::{http::Trust, tasks::Source};

/// URL of an AWS API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The public endpoint of the task's region.
    Aws,
    /// This URL.
    At(String),
}

/// Connection to the Amazon ECS API.
#[derive(Debug)]
pub struct ApiOptions {
    /// URL of the API.
    pub endpoint: Endpoint,
    /// CA certificates that the client trusts.
    pub trust: Trust,
}

/// Address of each source; `None` turns the source off.
#[derive(Debug, Default)]
pub struct SourceOptions {
    /// Socket of the Docker Engine.
    pub docker: Option<PathBuf>,
    /// Folder of the ECS agent's state.
    pub agent: Option<PathBuf>,
    /// URL of the agent's introspection endpoint.
    pub introspection: Option<String>,
    /// URL of the task metadata endpoint, as the host reaches it.
    pub tmds: Option<String>,
    /// URL of the instance metadata service.
    pub imds: Option<String>,
    /// The Amazon ECS API.
    pub api: Option<ApiOptions>,
    /// Saved output of `aws ecs describe-tasks`.
    pub file: Option<TasksFile>,
}

impl SourceOptions {
    /// The sources that are turned on.
    pub(in crate::tasks) fn sources(&self) -> Vec<Source> {
        let asked = [
            (Source::Docker, self.docker.is_some()),
            (Source::Agent, self.agent.is_some()),
            (Source::Introspection, self.introspection.is_some()),
            (Source::Tmds, self.tmds.is_some()),
            (Source::Imds, self.imds.is_some()),
            (Source::Api, self.api.is_some()),
            (Source::File, self.file.is_some()),
        ];
        asked.into_iter().filter(|(_, asked)| *asked).map(|(source, _)| source).collect()
    }
}
