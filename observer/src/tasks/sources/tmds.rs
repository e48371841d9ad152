//! The task metadata endpoint, version 4, as the host reaches it: the only local source of service
//! names.
//!
//! Each container has an endpoint id in its environment. The agent checks the id only, not the
//! client. Its rate limit is shared with the tasks themselves, so this source requests each task
//! once per change of its containers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

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
    view::{ContainerView, EniView, TaskView, View, add},
};

/// Delay of the request after a change: containers of a task start one after the other.
const SETTLE: Duration = Duration::from_millis(300);
/// Pause between requests: at most five a second, an eighth of the agent's rate limit.
const SPACING: Duration = Duration::from_millis(200);
/// First and longest pause between attempts for a task whose request failed.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(2)];

/// A task and the state of its request.
#[derive(Debug)]
struct TaskRequest {
    containers: Vec<Box<str>>,
    /// Time of the last change of its containers.
    changed: Instant,
    /// Time of the next request; `None` after an answer, until the containers change.
    due: Option<Instant>,
    backoff: Backoff,
    view: Option<TaskView>,
}

/// Requests each task of the scene.
pub(super) async fn follow(url: String, feed: Feed, mut scene: watch::Receiver<Arc<Scene>>) {
    let http = Http::new();
    let url = url.trim_end_matches('/');
    let mut tasks = BTreeMap::<Box<str>, TaskRequest>::new();
    loop {
        if take(&mut tasks, &scene.borrow_and_update(), Instant::now()) {
            publish(&feed, &tasks);
        }
        let now = Instant::now();
        let next = tasks
            .iter_mut()
            .filter(|(_, task)| task.due.is_some())
            .min_by_key(|(_, task)| task.due);
        if let Some((endpoint, task)) = next
            && task.due.is_some_and(|due| due <= now)
        {
            match feed.heard(ask(&http, url, endpoint).await) {
                Ok(view) => {
                    task.view = view;
                    task.due = None;
                    feed.up();
                }
                Err(error) => {
                    task.due = Some(Instant::now() + task.backoff.pause());
                    feed.down(error);
                }
            }
            publish(&feed, &tasks);
            sleep(SPACING).await;
            continue;
        }
        let due = tasks.values().filter_map(|task| task.due).min();
        let wait = due.map_or(Duration::from_hours(1), |due| due.saturating_duration_since(now));
        tokio::select! {
            () = sleep(wait) => {}
            changed = scene.changed() => if changed.is_err() { return },
        }
    }
}

/// Adds and removes tasks as the scene does. Returns true if a task is gone.
fn take(tasks: &mut BTreeMap<Box<str>, TaskRequest>, scene: &Scene, now: Instant) -> bool {
    for task in &scene.tasks {
        let Some(endpoint) = &task.endpoint else { continue };
        let known = tasks.get(endpoint).map(|known| &known.containers);
        if known != Some(&task.containers) {
            let before = tasks.remove(endpoint).and_then(|known| known.view);
            tasks.insert(
                endpoint.clone(),
                TaskRequest {
                    containers: task.containers.clone(),
                    changed: now,
                    due: Some(now + SETTLE),
                    backoff: Backoff::new(PAUSES[0], PAUSES[1]),
                    view: before,
                },
            );
        }
    }
    let before = tasks.len();
    tasks.retain(|endpoint, _| {
        scene.tasks.iter().any(|task| task.endpoint.as_ref() == Some(endpoint))
    });
    tasks.len() != before
}

fn publish(feed: &Feed, tasks: &BTreeMap<Box<str>, TaskRequest>) {
    let asked = tasks.values().map(|task| task.changed).min().unwrap_or_else(Instant::now);
    let tasks = tasks.values().filter_map(|task| task.view.clone()).collect();
    feed.view(View { tasks, ..View::default() }, asked);
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Task {
    cluster: String,
    #[serde(rename = "TaskARN")]
    arn: String,
    family: String,
    revision: String,
    service_name: String,
    #[serde(rename = "VPCID")]
    vpc_id: String,
    #[serde(rename = "AvailabilityZoneID")]
    az_id: String,
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
    #[serde(rename = "MACAddress")]
    mac_address: String,
}

async fn ask(http: &Http, url: &str, endpoint: &str) -> Result<Option<TaskView>, HttpError> {
    Ok(task_view(http.json(&format!("{url}/v4/{endpoint}/task")).await?))
}

fn task_view(task: Task) -> Option<TaskView> {
    let mut view = TaskView::new(&task.arn)?;
    view.add_cluster(&task.cluster);
    view.add_definition(&task.family, &task.revision);
    view.add(Attribute::ServiceName, &task.service_name);
    view.add(Attribute::VpcId, &task.vpc_id);
    view.add(Attribute::AzId, &task.az_id);
    for container in task.containers.into_iter().flatten() {
        for network in container.networks.into_iter().flatten() {
            if view.get(Attribute::NetworkMode).is_none() {
                view.add(Attribute::NetworkMode, &network.mode);
            }
            if let Ok(mac) = network.mac_address.parse()
                && view.enis.iter().all(|eni| eni.mac != mac)
            {
                let mut details = Vec::new();
                add(&mut details, Attribute::VpcId, &task.vpc_id);
                view.enis.push(EniView { mac, details });
            }
        }
        view.containers.push(ContainerView {
            id: container.docker_id.into(),
            name: container.name.into(),
            ..ContainerView::default()
        });
    }
    Some(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::hostile;
    use crate::tasks::sources::scene::SceneTask;

    const TASK: &str = r#"{"Cluster":"lab","TaskARN":"arn:aws:ecs:eu-west-1:111122223333:task/lab/a","Family":"web",
        "Revision":"7","KnownStatus":"RUNNING","AvailabilityZone":"eu-west-1a","AvailabilityZoneID":"euw1-az1",
        "LaunchType":"EC2","VPCID":"vpc-0a","ServiceName":"websvc","FaultInjectionEnabled":false,"Containers":[
        {"DockerId":"c0","Name":"~internal~ecs~pause","Type":"CNI_PAUSE","Networks":[{"NetworkMode":"awsvpc",
          "IPv4Addresses":["10.7.1.25"],"AttachmentIndex":0,"MACAddress":"0a:1b:2c:3d:4e:5f"}]},
        {"DockerId":"c1","Name":"app","Type":"NORMAL","Networks":[{"NetworkMode":"awsvpc",
          "IPv4Addresses":["10.7.1.25"],"AttachmentIndex":0,"MACAddress":"0a:1b:2c:3d:4e:5f"}]}]}"#;

    #[test]
    fn a_task_has_its_service_and_eni() {
        let view = task_view(serde_json::from_str(TASK).unwrap()).unwrap();
        for (attribute, expected) in [
            (Attribute::ServiceName, "websvc"),
            (Attribute::VpcId, "vpc-0a"),
            (Attribute::AzId, "euw1-az1"),
            (Attribute::NetworkMode, "awsvpc"),
            (Attribute::ClusterArn, "arn:aws:ecs:eu-west-1:111122223333:cluster/lab"),
        ] {
            assert_eq!(view.get(attribute), Some(expected), "{attribute:?}");
        }
        assert_eq!(view.enis.len(), 1);
        assert_eq!(view.containers.iter().filter(|container| container.is_pause()).count(), 1);
    }

    #[test]
    fn a_task_is_due_once_per_change_of_its_containers() {
        let mut tasks = BTreeMap::new();
        let now = Instant::now();
        let scene = |containers: &[&str]| Scene {
            tasks: vec![SceneTask {
                containers: containers.iter().map(|id| Box::from(*id)).collect(),
                endpoint: Some("e".into()),
            }],
            ..Scene::default()
        };
        take(&mut tasks, &scene(&["c1"]), now);
        assert_eq!(tasks["e"].due, Some(now + SETTLE));
        tasks.get_mut("e").unwrap().due = None;
        take(&mut tasks, &scene(&["c1"]), now);
        assert_eq!(tasks["e"].due, None, "no change");
        take(&mut tasks, &scene(&["c1", "c2"]), now);
        assert_eq!(tasks["e"].due, Some(now + SETTLE), "a change");
        assert!(take(&mut tasks, &Scene::default(), now));
        assert!(tasks.is_empty());
    }

    #[test]
    fn texts_of_every_kind_become_single_words() {
        hostile::assert_words(TASK, |text| {
            let task = task_view(serde_json::from_str(text).ok()?)?;
            Some(View { tasks: vec![task], ..View::default() })
        });
    }
}
