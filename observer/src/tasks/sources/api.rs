//! The Amazon ECS API, where credentials allow to ask it: ids of ENIs, branch ENIs included, and services.
//!
//! Asked only about tasks that a source on this host tells of: once for each, many at a time. An answer holds for the
//! task's life, because the ids of an ENI never change while it is attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{
    ApiOptions, Feed, Scene,
    aws::{Aws, AwsError},
    backoff::Backoff,
    describe_tasks::{Answer, Task, task_view},
};
use crate::{
    http::HttpClient,
    tasks::{
        Attribute,
        arn::Arn,
        view::{TaskView, View, add},
    },
};

/// Tasks come in bunches, and their ENIs a moment later.
const SETTLE: Duration = Duration::from_millis(500);
/// The API's limits are the whole account's: one host asks once a second at most.
const SPACING: Duration = Duration::from_secs(1);
/// As many tasks as one request may be about.
const AT_ONCE: usize = 100;
/// Pauses while the API does not answer, or does not allow to be asked.
const REFUSED: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(10)];
/// Pauses while a task is not known or its ENI is not attached.
const INCOMPLETE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// After this long what is missing is not waited for.
const GIVE_UP: Duration = Duration::from_mins(3);

/// Asks about each task of the scene.
pub(super) async fn follow(options: ApiOptions, feed: Feed, mut scene: watch::Receiver<Arc<Scene>>) {
    let mut api = Api { options, client: None };
    let mut known = Known::default();
    let mut refused = Backoff::new(REFUSED[0], REFUSED[1]);
    loop {
        if known.take(&scene.borrow_and_update(), Instant::now()) {
            feed.view(known.view(), Instant::now());
        }
        let asked = Instant::now();
        let pause = match known.due(asked) {
            Due::Now(cluster, tasks) => match feed.heard(api.ask(&mut known, &cluster, &tasks).await) {
                Ok(()) => {
                    feed.view(known.view(), asked);
                    feed.up();
                    refused.reset();
                    SPACING
                }
                Err(error) => {
                    feed.down(error);
                    refused.pause()
                }
            },
            Due::At(time) => {
                let pause =
                    time.map_or(Duration::from_hours(1), |time| time.saturating_duration_since(asked));
                tokio::select! {
                    () = sleep(pause) => {}
                    changed = scene.changed() => if changed.is_err() { return },
                }
                continue;
            }
        };
        sleep(pause).await;
    }
}

/// What is known, and what is to be asked.
#[derive(Debug, Default)]
struct Known {
    /// By ARN.
    tasks: BTreeMap<Box<str>, Asked>,
    /// Container instances, and what is said of them.
    instances: BTreeMap<Box<str>, Vec<(Attribute, Box<str>)>>,
}

/// A task.
#[derive(Debug)]
struct Asked {
    since: Instant,
    /// When it is due; never again once all is known.
    due: Option<Instant>,
    backoff: Backoff,
    instance: Box<str>,
    view: Option<TaskView>,
}

/// What comes next.
enum Due {
    /// These tasks of this cluster.
    Now(String, Vec<String>),
    /// Nothing until then.
    At(Option<Instant>),
}

impl Known {
    /// Follows the scene; says whether a task that was told of is gone.
    fn take(&mut self, scene: &Scene, now: Instant) -> bool {
        for arn in &scene.arns {
            self.tasks.entry(arn.clone()).or_insert_with(|| Asked {
                since: now,
                due: Some(now + SETTLE),
                backoff: Backoff::new(INCOMPLETE[0], INCOMPLETE[1]),
                instance: Box::default(),
                view: None,
            });
        }
        let before = self.tasks.len();
        self.tasks.retain(|arn, _| scene.arns.contains(arn));
        self.tasks.len() != before
    }

    fn due(&self, now: Instant) -> Due {
        let due = self.tasks.iter().filter(|(_, task)| task.due.is_some_and(|due| due <= now));
        let mut clusters = BTreeMap::<String, Vec<String>>::new();
        for (arn, _) in due {
            // In the short form of its ARN a task does not tell its cluster: then it is the default one.
            let cluster = Arn::parse(arn).and_then(|arn| arn.cluster().map(str::to_owned));
            clusters.entry(cluster.unwrap_or_else(|| "default".into())).or_default().push(arn.to_string());
        }
        match clusters.pop_first() {
            Some((cluster, mut tasks)) => {
                tasks.truncate(AT_ONCE);
                Due::Now(cluster, tasks)
            }
            None => Due::At(self.tasks.values().filter_map(|task| task.due).min()),
        }
    }

    /// Takes an answer about these tasks.
    fn learn(&mut self, asked: &[String], answers: &[Task], now: Instant) {
        for arn in asked {
            let Some(task) = self.tasks.get_mut(arn.as_str()) else { continue };
            let answer = answers.iter().find(|answer| answer.task_arn == *arn);
            if let Some(answer) = answer {
                task.instance = answer.container_instance_arn.as_str().into();
                task.view = task_view(answer);
            }
            // An ENI without its MAC address is yet to be attached.
            let attached = task.view.as_ref().is_some_and(|view| !view.enis.is_empty());
            let complete = answer.is_some_and(|answer| attached || answer.attachments.is_empty());
            let due = Some(now + task.backoff.pause());
            task.due = due.filter(|_| !complete && now.duration_since(task.since) < GIVE_UP);
        }
    }

    /// Container instances of which nothing is known.
    fn new_instances(&self) -> BTreeSet<Box<str>> {
        let all = self.tasks.values().map(|task| &task.instance);
        all.filter(|arn| !arn.is_empty() && !self.instances.contains_key(*arn)).cloned().collect()
    }

    fn view(&self) -> View {
        let mut host = Vec::new();
        // A host is one container instance; an older one is one that it was before it was registered again.
        for task in self.tasks.values() {
            if let Some(details) = self.instances.get(&task.instance).filter(|_| host.is_empty()) {
                host.clone_from(details);
            }
        }
        View {
            host,
            tasks: self.tasks.values().filter_map(|task| task.view.clone()).collect(),
            ..View::default()
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {source}")]
struct ApiError {
    call: &'static str,
    source: AwsError,
}

impl ApiError {
    fn of(call: &'static str) -> impl FnOnce(AwsError) -> Self {
        move |source| Self { call, source }
    }
}

/// `DescribeTasksRequest`.
#[derive(Serialize)]
struct DescribeTasks<'a> {
    cluster: &'a str,
    tasks: &'a [String],
}

/// `DescribeContainerInstancesRequest`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct DescribeContainerInstances<'a> {
    cluster: &'a str,
    container_instances: [&'a str; 1],
}

/// `DescribeContainerInstancesResponse`, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerInstances {
    #[serde(default)]
    container_instances: Vec<ContainerInstance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerInstance {
    ec2_instance_id: Option<String>,
    #[serde(default)]
    attributes: Vec<InstanceAttribute>,
}

#[derive(Deserialize)]
struct InstanceAttribute {
    name: String,
    value: Option<String>,
}

struct Api {
    options: ApiOptions,
    client: Option<(String, Aws)>,
}

impl Api {
    /// Asks about tasks of a cluster, and about the container instance that they are on.
    async fn ask(&mut self, known: &mut Known, cluster: &str, tasks: &[String]) -> Result<(), ApiError> {
        const TASKS: &str = "ecs:DescribeTasks";
        let region = tasks.first().and_then(|arn| Arn::parse(arn)).map(|arn| arn.region.to_owned());
        let client = self.client(region.unwrap_or_default()).map_err(ApiError::of(TASKS))?;
        let question = DescribeTasks { cluster, tasks };
        let answer: Answer = client
            .call("AmazonEC2ContainerServiceV20141113.DescribeTasks", &question)
            .await
            .map_err(ApiError::of(TASKS))?;
        known.learn(tasks, &answer.tasks, Instant::now());
        for instance in known.new_instances() {
            // Without this permission the others are of use all the same.
            let details = instance_details(client, cluster, &instance).await.unwrap_or_else(|error| {
                tracing::info!(%error, "the API tells nothing of this container instance");
                Vec::new()
            });
            known.instances.insert(instance, details);
        }
        Ok(())
    }

    /// The client for a region.
    fn client(&mut self, region: String) -> Result<&Aws, AwsError> {
        let ApiOptions { endpoint, trust } = &self.options;
        let client = match self.client.take() {
            Some((of, client)) if of == region => client,
            _ => Aws::new(HttpClient::new(trust)?, "ecs", &region, endpoint),
        };
        Ok(&self.client.insert((region, client)).1)
    }
}

async fn instance_details(
    client: &Aws,
    cluster: &str,
    instance: &str,
) -> Result<Vec<(Attribute, Box<str>)>, ApiError> {
    let question = DescribeContainerInstances { cluster, container_instances: [instance] };
    let answer: ContainerInstances = client
        .call("AmazonEC2ContainerServiceV20141113.DescribeContainerInstances", &question)
        .await
        .map_err(ApiError::of("ecs:DescribeContainerInstances"))?;
    let mut details = Vec::new();
    if let Some(instance) = answer.container_instances.first() {
        add(&mut details, Attribute::InstanceId, instance.ec2_instance_id.as_deref().unwrap_or_default());
        let vpc = instance.attributes.iter().find(|attribute| attribute.name == "ecs.vpc-id");
        let vpc = vpc.and_then(|attribute| attribute.value.as_deref());
        add(&mut details, Attribute::VpcId, vpc.unwrap_or_default());
    }
    Ok(details)
}

#[cfg(test)]
mod tests {
    use super::{
        super::describe_tasks::{Attachment, Detail},
        *,
    };

    const ARN: &str = "arn:aws:ecs:eu-west-1:111122223333:task/lab/0123456789abcdef0123456789abcdef";

    fn scene(arns: &[&str]) -> Scene {
        Scene { arns: arns.iter().map(|arn| (*arn).into()).collect(), ..Scene::default() }
    }

    fn answer(arn: &str, mac: &str) -> Task {
        let detail = |name: &str, value: &str| Detail { name: name.into(), value: value.into() };
        let details = vec![detail("networkInterfaceId", "eni-0a"), detail("macAddress", mac)];
        let attachments = vec![Attachment { status: "ATTACHED".into(), details }];
        let parsed: Task = serde_json::from_value(serde_json::json!({"taskArn": arn})).unwrap();
        Task { attachments, ..parsed }
    }

    #[test]
    fn tasks_are_asked_about_together_and_once() {
        let mut known = Known::default();
        let start = Instant::now();
        let many: Vec<String> =
            (0..130).map(|number| format!("{}{number:03}", &ARN[..ARN.len() - 3])).collect();
        known.take(&scene(&many.iter().map(String::as_str).collect::<Vec<_>>()), start);
        assert!(matches!(known.due(start), Due::At(Some(_))), "they settle first");
        let mut sizes = Vec::new();
        let later = start + SETTLE;
        while let Due::Now(cluster, tasks) = known.due(later) {
            assert_eq!(cluster, "lab");
            sizes.push(tasks.len());
            let answers: Vec<_> = tasks.iter().map(|arn| answer(arn, "0a:00:00:00:00:01")).collect();
            known.learn(&tasks, &answers, later);
        }
        assert_eq!(sizes, [100, 30]);
        assert!(matches!(known.due(later + GIVE_UP), Due::At(None)));
        assert_eq!(known.view().tasks.len(), 130);
        assert!(known.take(&scene(&[]), later));
        assert_eq!(known.view().tasks.len(), 0);
    }

    #[test]
    fn an_eni_that_is_not_attached_is_asked_about_again_for_a_while() {
        let mut known = Known::default();
        let start = Instant::now();
        known.take(&scene(&[ARN]), start);
        let asked = [ARN.to_owned()];
        known.learn(&asked, &[answer(ARN, "")], start);
        assert!(matches!(known.due(start), Due::At(Some(_))));
        known.learn(&asked, &[], start + GIVE_UP);
        assert!(matches!(known.due(start + GIVE_UP), Due::At(None)));
    }
}
