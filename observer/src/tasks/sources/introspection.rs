//! The ECS agent's introspection endpoint: tasks, containers and their addresses.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use hyper::Method;
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use super::{
    backoff::Backoff,
    feed::Feed,
    http::{Http, HttpError},
    scene::Scene,
};
use crate::tasks::{
    Attribute,
    view::{ContainerView, TaskView, View, add_container_instance},
};

/// Interval of requests while nothing changes on the host.
const PERIOD: Duration = Duration::from_secs(30);
/// Delays of the two requests after a change: the agent may list a container before its addresses.
const SETTLE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(3)];

/// Requests all tasks at each change of the scene, and at intervals.
pub(super) async fn follow(url: String, feed: Feed, mut scene: watch::Receiver<Arc<Scene>>) {
    let http = Http::new();
    let mut backoff = Backoff::new(Duration::from_millis(500), PERIOD);
    let mut settling = 0;
    loop {
        let seen = scene.borrow_and_update().changes;
        let asked = Instant::now();
        let pause = match feed.heard(ask(&http, url.trim_end_matches('/')).await) {
            Ok(view) => {
                // An agent that is not registered yet has no container instance.
                let registered = !view.host.is_empty();
                feed.view(view, asked);
                feed.up();
                if registered {
                    backoff.reset();
                    PERIOD
                } else {
                    backoff.pause()
                }
            }
            Err(error) => {
                feed.down(error);
                backoff.pause()
            }
        };
        let pause = SETTLE.get(settling).copied().unwrap_or(pause).min(pause);
        settling += 1;
        tokio::select! {
            () = sleep(pause) => {}
            stopping = async { scene.wait_for(|scene| scene.changes != seen).await.is_err() } => {
                if stopping {
                    return;
                }
                settling = 1;
                sleep(SETTLE[0]).await;
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    container_instance_arn: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Tasks {
    tasks: Option<Vec<Task>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Task {
    arn: String,
    known_status: String,
    family: String,
    version: String,
    containers: Option<Vec<Container>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    docker_id: String,
    name: String,
    networks: Option<Vec<Network>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    #[serde(rename = "NetworkMode")]
    mode: String,
    #[serde(rename = "IPv4Addresses")]
    ipv4_addresses: Option<Vec<String>>,
    #[serde(rename = "IPv6Addresses")]
    ipv6_addresses: Option<Vec<String>>,
}

async fn ask(http: &Http, url: &str) -> Result<View, HttpError> {
    let metadata: Metadata = http.json(&format!("{url}/v1/metadata")).await?;
    let tasks_url = format!("{url}/v1/tasks");
    let answer = http.ask(Method::GET, &tasks_url, None).await?;
    let tasks = match answer.status {
        200 => serde_json::from_slice(&answer.body)
            .map_err(|source| HttpError::Parse { url: tasks_url, source })?,
        // The agent answers 404 if it has no tasks.
        404 => Tasks::default(),
        status => return Err(HttpError::Status { url: tasks_url, status }),
    };
    Ok(view(&metadata, tasks))
}

fn view(metadata: &Metadata, tasks: Tasks) -> View {
    let mut view = View::default();
    if let Some(arn) = &metadata.container_instance_arn {
        add_container_instance(&mut view.host, arn);
    }
    let tasks = tasks.tasks.into_iter().flatten().filter(|task| task.known_status != "STOPPED");
    view.tasks = tasks.filter_map(|task| task_view(metadata, task)).collect();
    view
}

fn task_view(metadata: &Metadata, task: Task) -> Option<TaskView> {
    let mut view = TaskView::new(&task.arn)?;
    view.add_cluster(&metadata.cluster);
    view.add_definition(&task.family, &task.version);
    for container in task.containers.into_iter().flatten() {
        for network in container.networks.into_iter().flatten() {
            if view.get(Attribute::NetworkMode).is_none() {
                view.add(Attribute::NetworkMode, &network.mode);
            }
            // In other modes addresses repeat on every host.
            if network.mode == "awsvpc" {
                let texts =
                    network.ipv4_addresses.into_iter().chain(network.ipv6_addresses).flatten();
                view.addresses.extend(texts.filter_map(|text| text.parse::<IpAddr>().ok()));
            }
        }
        view.containers.push(ContainerView {
            id: container.docker_id.into(),
            name: container.name.into(),
            ..ContainerView::default()
        });
    }
    view.addresses.sort();
    view.addresses.dedup();
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::hostile;

    #[test]
    fn running_tasks_have_their_addresses() {
        let metadata = serde_json::from_str(
            r#"{"Cluster":"lab","ContainerInstanceArn":"arn:aws:ecs:eu-west-1:111122223333:container-instance/lab/0011","Version":"v"}"#,
        )
        .unwrap();
        let tasks = serde_json::from_str(
            r#"{"Tasks":[
                {"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/lab/a","KnownStatus":"RUNNING","Family":"web","Version":"7","Containers":[
                    {"DockerId":"c1","DockerName":"x","Name":"app","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.7.1.25"],"IPv6Addresses":["2a05::25"]}]},
                    {"DockerId":"c2","DockerName":"y","Name":"side","Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.7.1.25"]}]}]},
                {"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/lab/b","KnownStatus":"STOPPED","Family":"web","Version":"7"},
                {"Arn":"nonsense","KnownStatus":"RUNNING"}]}"#,
        )
        .unwrap();
        let view = view(&metadata, tasks);
        assert_eq!(view.host.len(), 2, "the container instance");
        let [task] = &view.tasks[..] else { panic!("{:?}", view.tasks) };
        assert_eq!(
            task.addresses,
            ["10.7.1.25".parse::<IpAddr>().unwrap(), "2a05::25".parse().unwrap()]
        );
        assert_eq!(task.containers.len(), 2);
        assert_eq!(task.get(Attribute::NetworkMode), Some("awsvpc"));
        let definition = "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7";
        assert_eq!(task.get(Attribute::TaskDefinitionArn), Some(definition));
    }

    #[test]
    fn an_agent_that_is_not_registered_gives_no_instance() {
        let metadata =
            serde_json::from_str(r#"{"Cluster":"","ContainerInstanceArn":null}"#).unwrap();
        assert_eq!(view(&metadata, Tasks::default()), View::default());
    }

    #[test]
    fn texts_of_every_kind_become_single_words() {
        let metadata =
            serde_json::from_str(r#"{"Cluster":"lab","ContainerInstanceArn":null}"#).unwrap();
        let tasks = r#"{"Tasks":[{"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/lab/a","KnownStatus":"RUNNING",
            "Family":"web","Version":"7","Containers":[{"DockerId":"c1","DockerName":"x","Name":"app",
            "Networks":[{"NetworkMode":"awsvpc","IPv4Addresses":["10.7.1.25"]}]}]}]}"#;
        hostile::assert_words(tasks, |text| {
            Some(view(&metadata, serde_json::from_str(text).ok()?))
        });
    }
}
