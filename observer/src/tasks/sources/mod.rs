//! Who is asked about the tasks of this host.
//!
//! Owns: one async task for each source, with its own retries and its own health. In: where a source is to be found,
//! and the [`Scene`]: what the watch sees. Out: whole [`View`]s, at each change. A source that fails leaves the view
//! of before, and nobody waits for one.

mod agent;
mod api;
mod aws;
mod backoff;
mod describe_tasks;
mod docker;
mod file;
mod http;
mod imds;
mod introspection;
mod tmds;

use std::{
    collections::BTreeSet,
    fmt,
    path::PathBuf,
    sync::{Arc, mpsc::Sender},
    time::Instant,
};

use nix::sys::eventfd::EventFd;
use tokio::{runtime::Handle, sync::watch, task::JoinSet};

pub use file::{TasksFile, TasksFileError};
pub(super) use tmds::endpoint;

use super::{Attribute, InterfaceKey, Mac, Source, view::View};
use crate::http::Trust;

/// Where an API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Where AWS has it, for the region of a task.
    Aws,
    /// At this URL.
    At(String),
}

/// How the Amazon ECS API is reached.
#[derive(Debug)]
pub struct ApiOptions {
    /// Its endpoint.
    pub endpoint: Endpoint,
    /// CA certificates that its client trusts.
    pub trust: Trust,
}

/// Which sources are asked, and where they are.
#[derive(Debug, Default)]
pub struct SourceOptions {
    /// Socket of the Docker Engine.
    pub docker: Option<PathBuf>,
    /// Folder of the ECS agent's state.
    pub agent: Option<PathBuf>,
    /// The agent's introspection endpoint.
    pub introspection: Option<String>,
    /// The task metadata endpoint, as the host reaches it.
    pub tmds: Option<String>,
    /// The instance metadata service.
    pub imds: Option<String>,
    /// The Amazon ECS API.
    pub api: Option<ApiOptions>,
    /// Saved output of `aws ecs describe-tasks`.
    pub file: Option<TasksFile>,
}

impl SourceOptions {
    /// The sources that are asked.
    pub(super) fn sources(&self) -> Vec<Source> {
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

/// How a source is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It has not answered yet.
    #[default]
    Starting,
    /// Its last answer was one.
    Up,
    /// Its last answer was none, for this reason.
    Down(Box<str>),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.write_str("not asked yet"),
            Self::Up => f.write_str("up"),
            Self::Down(reason) => f.write_str(reason),
        }
    }
}

/// Told what happens to the sources.
pub trait SourceObserver: fmt::Debug + Send + Sync {
    /// A source was asked, and answered or failed to.
    fn asked(&self, source: Source, answered: bool);
    /// A source answers, or no longer does.
    fn up(&self, source: Source, up: bool);
    /// A source was not believed, because a weightier one says something else.
    fn conflict(&self, source: Source, attribute: Attribute);
}

/// What a source tells.
#[derive(Debug)]
pub(super) enum News {
    /// All that it says, and since when it was asked for that.
    View(Box<View>, Instant),
    /// How it is.
    State(State),
}

/// Where a source puts its news.
#[derive(Clone, Debug)]
pub(super) struct Feed {
    source: Source,
    news: Sender<(Source, News)>,
    wake: Arc<EventFd>,
    observer: Arc<dyn SourceObserver>,
}

impl Feed {
    /// A feed to whoever holds the other end of `news` and waits for `wake`.
    pub(super) fn new(
        source: Source,
        news: &Sender<(Source, News)>,
        wake: &Arc<EventFd>,
        observer: &Arc<dyn SourceObserver>,
    ) -> Self {
        Self { source, news: news.clone(), wake: Arc::clone(wake), observer: Arc::clone(observer) }
    }

    fn tell(&self, news: News) {
        // The receiver being gone means that the daemon is stopping.
        let _ = self.news.send((self.source, news));
        let _ = self.wake.write(1);
    }

    /// All that it says.
    fn view(&self, view: View, asked: Instant) {
        self.tell(News::View(Box::new(view), asked));
    }

    /// It answers.
    fn up(&self) {
        self.tell(News::State(State::Up));
    }

    /// It does not.
    fn down(&self, reason: impl fmt::Display) {
        self.tell(News::State(State::Down(reason.to_string().into())));
    }

    /// It was asked.
    fn asked(&self, answered: bool) {
        self.observer.asked(self.source, answered);
    }

    /// [`asked`](Self::asked), by the answer.
    fn heard<T, E>(&self, answer: Result<T, E>) -> Result<T, E> {
        self.asked(answer.is_ok());
        answer
    }
}

/// What the watch sees, as far as sources want to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scene {
    /// How often interfaces and containers have changed.
    pub(super) changes: u64,
    /// Interfaces that may be ENIs.
    pub(super) interfaces: Vec<(InterfaceKey, Mac)>,
    /// Tasks that are on this host, with an id at the task metadata endpoint.
    pub(super) tasks: Vec<SceneTask>,
    /// ARNs of all tasks that are on this host.
    pub(super) arns: BTreeSet<Box<str>>,
}

/// A task that is on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SceneTask {
    /// Ids of its containers, sorted: when they change, so may what is said of the task.
    pub(super) containers: Vec<Box<str>>,
    /// The id of one of them at the task metadata endpoint.
    pub(super) endpoint: Option<Box<str>>,
}

/// What follows the sources, until it is dropped.
#[derive(Debug)]
pub(super) struct Sources {
    _tasks: JoinSet<()>,
}

impl Sources {
    /// Starts to ask.
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
            tasks.spawn_on(introspection::follow(url, feed(Source::Introspection), scene.clone()), runtime);
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
