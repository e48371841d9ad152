//! Sources of task identity: Docker, the ECS agent, metadata services, the Amazon ECS API and saved
//! API output.
//!
//! Owns: one async task for each source, with its own retries and its own health. In: the address
//! of each source, and the [`Scene`]: the interfaces and tasks to ask about. Out: a whole
//! [`View`](super::view::View) at each change. If a source fails, its last view stays in force. No
//! source waits for another.

mod agent;
mod api;
mod aws;
mod backoff;
mod describe_tasks;
mod docker;
mod endpoint_id;
mod feed;
mod file;
mod http;
mod imds;
mod introspection;
mod options;
mod scene;
mod tmds;

use std::sync::Arc;

use tokio::{runtime::Handle, sync::watch, task::JoinSet};

pub(super) use self::{
    endpoint_id::endpoint_id,
    feed::{Feed, SourceUpdate},
    scene::{Scene, SceneTask},
};
pub use self::{
    feed::{SourceObserver, State},
    file::{TasksFile, TasksFileError},
    options::{ApiOptions, Endpoint, SourceOptions},
};
use super::Source;

/// The running sources, one async task each. Dropping it stops them.
#[derive(Debug)]
pub(super) struct Sources {
    _tasks: JoinSet<()>,
}

impl Sources {
    /// Starts every source that has an address.
    pub(super) fn start(
        options: SourceOptions,
        runtime: &Handle,
        scene: &watch::Receiver<Arc<Scene>>,
        feed: impl Fn(Source) -> Feed,
    ) -> Self {
        let mut tasks = JoinSet::new();
        if let Some(socket) = options.docker {
            tasks.spawn_on(docker::follow(socket, feed(Source::Docker)), runtime);
        }
        if let Some(folder) = options.agent {
            tasks.spawn_on(agent::follow(folder, feed(Source::Agent), scene.clone()), runtime);
        }
        if let Some(url) = options.introspection {
            tasks.spawn_on(
                introspection::follow(url, feed(Source::Introspection), scene.clone()),
                runtime,
            );
        }
        if let Some(url) = options.tmds {
            tasks.spawn_on(tmds::follow(url, feed(Source::Tmds), scene.clone()), runtime);
        }
        if let Some(url) = options.imds {
            tasks.spawn_on(imds::follow(url, feed(Source::Imds), scene.clone()), runtime);
        }
        if let Some(api) = options.api {
            tasks.spawn_on(api::follow(api, feed(Source::Api), scene.clone()), runtime);
        }
        if let Some(file) = options.file {
            tasks.spawn_on(file::follow(file, feed(Source::File)), runtime);
        }
        Self { _tasks: tasks }
    }
}
