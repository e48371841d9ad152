//! The Docker Engine: containers, their tasks and their namespaces.
//!
//! The ECS agent sets its labels last, so no task can pretend to be another. Of a container's
//! environment, which may hold secrets, only one variable is read.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::{ContainerInspectResponse, ContainerStateStatusEnum, EventMessage},
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder,
    },
};
use futures_util::{StreamExt, stream};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{backoff::Backoff, endpoint_id::endpoint_id, feed::Feed};
use crate::tasks::{
    Attribute,
    view::{ContainerView, TaskView, View},
};

const LABEL: &str = "com.amazonaws.ecs.";
/// Timeout of a request, in seconds.
const PATIENCE: u64 = 10;
/// Interval of listing all containers, in case an event was lost.
const RELIST: Duration = Duration::from_mins(1);
/// Largest number of concurrent inspect requests.
const AT_ONCE: usize = 8;
/// First and longest pause between connections.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// Lists containers and follows events; reconnects if the connection breaks.
pub(super) async fn follow(socket: PathBuf, feed: Feed) {
    let mut backoff = Backoff::new(PAUSES[0], PAUSES[1]);
    let mut engine = Engine { containers: BTreeMap::new(), since: now(), logged_unread: false };
    loop {
        let started = Instant::now();
        if let Err(error) = engine.session(&socket, &feed).await {
            feed.asked(false);
            feed.down(format_args!("{}: {}", socket.display(), described(&error)));
        }
        // A connection that held for a while starts with short pauses again.
        if started.elapsed() > PAUSES[1] {
            backoff.reset();
        }
        sleep(backoff.pause()).await;
    }
}

/// The innermost cause of an error, on one line.
fn described(error: &Error) -> String {
    match error {
        Error::SocketNotFoundError(_) => "there is no such socket".into(),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text = cause.to_string();
                source = cause.source();
            }
            text
        }
    }
}

/// The containers of the engine.
struct Engine {
    containers: BTreeMap<String, Container>,
    /// Time of the last event, in nanoseconds since the UNIX epoch.
    since: u64,
    /// True once an answer that cannot be parsed was logged.
    logged_unread: bool,
}

/// A container of a task.
struct Container {
    /// RFC 3339, so that the text sorts by time.
    created: String,
    alive: bool,
    task_arn: String,
    family: String,
    revision: String,
    cluster: String,
    mode: Mode,
    view: ContainerView,
}

/// `HostConfig.NetworkMode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    None,
    Host,
    Bridge,
    /// The network of another container.
    Shared,
}

impl Engine {
    async fn session(&mut self, socket: &std::path::Path, feed: &Feed) -> Result<(), Error> {
        let path = socket.to_string_lossy();
        let docker = Docker::connect_with_unix(&path, PATIENCE, API_DEFAULT_VERSION)?;
        let docker = docker.negotiate_version().await?;
        // Subscribed before listing, so that no change is missed.
        let mut events = Box::pin(
            docker.events(Some(
                EventsOptionsBuilder::new()
                    .since(&format!(
                        "{}.{:09}",
                        self.since / 1_000_000_000,
                        self.since % 1_000_000_000
                    ))
                    .filters(&filters(&[
                        ("type", &["container"]),
                        ("event", &["create", "start", "die", "destroy"]),
                        ("label", &[&format!("{LABEL}task-arn")]),
                    ]))
                    .build(),
            )),
        );
        let mut relist = interval(RELIST);
        relist.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // The first tick is immediate.
                _ = relist.tick() => self.list(&docker, feed).await?,
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(&docker, event, feed).await?,
                    // The event may concern any container.
                    Some(Err(error)) if is_unread(&error) => {
                        self.skip("an event", &error, feed);
                        self.list(&docker, feed).await?;
                    }
                    Some(Err(error)) => return Err(error),
                    None => return Err(Error::IOError { err: std::io::ErrorKind::UnexpectedEof.into() }),
                },
            }
            feed.view(self.view(), Instant::now());
            feed.up();
        }
    }

    /// Lists all containers of tasks, and inspects each.
    async fn list(&mut self, docker: &Docker, feed: &Feed) -> Result<(), Error> {
        let options = ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters(&[("label", &[&format!("{LABEL}task-arn")])]))
            .build();
        let listed = feed.heard(docker.list_containers(Some(options)).await)?;
        let ids: Vec<String> = listed.into_iter().filter_map(|container| container.id).collect();
        let inspected: Vec<_> = stream::iter(ids)
            .map(|id| async move {
                let inspected = inspect(docker, &id).await;
                (id, inspected)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut containers = BTreeMap::new();
        for (id, inspected) in inspected {
            match inspected {
                Ok(container) => containers.extend(container.map(|container| (id, container))),
                // The last answer for this container stays in force.
                Err(error) if is_unread(&error) => {
                    self.skip(&id, &error, feed);
                    containers.extend(self.containers.remove_entry(&id));
                }
                Err(error) => return Err(error),
            }
        }
        self.containers = containers;
        Ok(())
    }

    /// Skips an answer that cannot be parsed, and logs the first one.
    fn skip(&mut self, answer: &str, error: &Error, feed: &Feed) {
        feed.asked(false);
        if !std::mem::replace(&mut self.logged_unread, true) {
            tracing::warn!(answer, %error, "an answer of Docker cannot be parsed, and is skipped");
        }
    }

    /// Inspects the container of an event.
    async fn take(
        &mut self,
        docker: &Docker,
        event: EventMessage,
        feed: &Feed,
    ) -> Result<(), Error> {
        if let Some(time) = event.time_nano.and_then(|time| u64::try_from(time).ok()) {
            self.since = self.since.max(time);
        }
        let Some(id) = event.actor.and_then(|actor| actor.id) else { return Ok(()) };
        match inspect(docker, &id).await {
            Ok(Some(container)) => drop(self.containers.insert(id, container)),
            Ok(None) => drop(self.containers.remove(&id)),
            Err(error) if is_unread(&error) => self.skip(&id, &error, feed),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn view(&self) -> View {
        let mut tasks = BTreeMap::<&str, Vec<&Container>>::new();
        for container in self.containers.values() {
            tasks.entry(&container.task_arn).or_default().push(container);
        }
        tasks.retain(|_, containers| containers.iter().any(|container| container.alive));
        let tasks = tasks.into_iter().filter_map(|(arn, mut containers)| {
            containers.sort_by_key(|container| (&container.created, &container.view.id));
            task_view(arn, &containers)
        });
        View { tasks: tasks.collect(), ..View::default() }
    }
}

fn task_view(arn: &str, containers: &[&Container]) -> Option<TaskView> {
    let mut view = TaskView::new(arn)?;
    let first = containers.first()?;
    view.add_cluster(&first.cluster);
    view.add_definition(&first.family, &first.revision);
    let any = |wanted| containers.iter().any(|container| container.mode == wanted);
    // Docker lists no network for the pause container that holds a task's ENI.
    let holds_eni = |it: &&&Container| it.mode == Mode::None && it.view.holds_task();
    let mode = if containers.iter().any(|container| holds_eni(&container)) {
        "awsvpc"
    } else if any(Mode::Host) {
        "host"
    } else if any(Mode::Bridge) {
        "bridge"
    } else if any(Mode::None) {
        "none"
    } else {
        ""
    };
    view.add(Attribute::NetworkMode, mode);
    view.containers = containers.iter().map(|container| container.view.clone()).collect();
    Some(view)
}

/// True if an answer was received but could not be parsed.
const fn is_unread(error: &Error) -> bool {
    matches!(error, Error::JsonDataError { .. } | Error::JsonSerdeError { .. })
}

/// Inspects a container; `None` if it is gone, or belongs to no task.
async fn inspect(docker: &Docker, id: &str) -> Result<Option<Container>, Error> {
    match docker.inspect_container(id, None::<InspectContainerOptions>).await {
        Ok(answer) => Ok(container(id, answer)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn container(id: &str, answer: ContainerInspectResponse) -> Option<Container> {
    let config = answer.config?;
    let mut labels = config.labels?;
    let mut label = |name: &str| labels.remove(&format!("{LABEL}{name}")).unwrap_or_default();
    let endpoint =
        config.env.iter().flatten().find_map(|variable| endpoint_id(variable.as_bytes()));
    let state = answer.state?;
    let status = state.status.unwrap_or(ContainerStateStatusEnum::EMPTY);
    let mode = match answer.host_config?.network_mode.as_deref() {
        Some("none") => Mode::None,
        Some("host") => Mode::Host,
        Some(mode) if mode.starts_with("container:") => Mode::Shared,
        _ => Mode::Bridge,
    };
    let sandbox = answer.network_settings.and_then(|settings| settings.sandbox_key);
    let running = state.running == Some(true);
    Some(Container {
        created: answer.created.unwrap_or_default(),
        alive: !matches!(status, ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD),
        task_arn: label("task-arn"),
        family: label("task-definition-family"),
        revision: label("task-definition-version"),
        cluster: label("cluster"),
        mode,
        view: ContainerView {
            id: id.into(),
            name: label("container-name").into(),
            pid: state
                .pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| running && *pid > 0),
            netns: sandbox
                .filter(|path| running && !path.is_empty() && mode != Mode::Host)
                .map(PathBuf::from),
            endpoint,
        },
    })
}

fn filters(filters: &[(&str, &[&str])]) -> HashMap<String, Vec<String>> {
    let owned = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    filters.iter().map(|(name, values)| ((*name).to_owned(), owned(values))).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, mode: Mode) -> Container {
        Container {
            created: String::new(),
            alive: true,
            task_arn: String::new(),
            family: "web".into(),
            revision: "7".into(),
            cluster: "lab".into(),
            mode,
            view: ContainerView { name: name.into(), ..ContainerView::default() },
        }
    }

    #[test]
    fn the_mode_of_a_task_follows_from_its_containers() {
        const ARN: &str = "arn:aws:ecs:eu-west-1:111122223333:task/lab/a";
        for (containers, mode) in [
            (vec![of("~internal~ecs~pause", Mode::None), of("app", Mode::Shared)], Some("awsvpc")),
            (vec![of("app", Mode::None)], Some("none")),
            (vec![of("app", Mode::Host)], Some("host")),
            (vec![of("app", Mode::Bridge), of("side", Mode::Bridge)], Some("bridge")),
            // Service Connect gives each container of a bridge a pause container of its own.
            (
                vec![of("~internal~ecs~pause-app", Mode::Bridge), of("app", Mode::Shared)],
                Some("bridge"),
            ),
            (vec![of("app", Mode::Shared)], None),
        ] {
            let containers: Vec<_> = containers.iter().collect();
            let view = task_view(ARN, &containers).unwrap();
            assert_eq!(view.get(Attribute::NetworkMode), mode);
        }
    }
}
