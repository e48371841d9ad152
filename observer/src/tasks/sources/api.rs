//! The Amazon ECS API, if credentials are available: ids of ENIs, including branch ENIs, and
//! services.
//!
//! Only tasks that a source on this host lists are requested: each task once, many in one request.
//! An answer is valid for the life of the task, because the ids of an ENI do not change while it is
//! attached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

use super::{
    aws::{Aws, AwsError},
    backoff::Backoff,
    describe_tasks::{Answer, Task, task_view},
    feed::Feed,
    options::ApiOptions,
    scene::Scene,
};
use crate::{
    http::HttpClient,
    tasks::{
        Attribute,
        arn::Arn,
        view::{TaskView, View, add},
    },
};

/// Delay of a request after a task appears: tasks appear in groups, and their ENIs a moment later.
const SETTLE: Duration = Duration::from_millis(500);
/// Pause between requests. The rate limit is shared by the whole account, so a host sends at most
/// one a second.
const SPACING: Duration = Duration::from_secs(1);
/// Largest number of tasks in one request.
const AT_ONCE: usize = 100;
/// First and longest pause while requests fail or are denied.
const REFUSED: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(10)];
/// First and longest pause while the API does not list a task or its ENI.
const INCOMPLETE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Time after which a task that is still incomplete is no longer requested.
const GIVE_UP: Duration = Duration::from_mins(3);

/// Requests each task of the scene.
pub(super) async fn follow(
    options: ApiOptions,
    feed: Feed,
    mut scene: watch::Receiver<Arc<Scene>>,
) {
    let mut api = Api { options, client: None };
    let mut known = Tasks::default();
    let mut refused = Backoff::new(REFUSED[0], REFUSED[1]);
    loop {
        if known.take(&scene.borrow_and_update(), Instant::now()) {
            feed.view(known.view(), Instant::now());
        }
        let asked = Instant::now();
        let pause = match known.due(asked) {
            Due::Now(cluster, tasks) => {
                match feed.heard(api.ask(&mut known, &cluster, &tasks).await) {
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
                }
            }
            Due::At(time) => {
                let pause = time
                    .map_or(Duration::from_hours(1), |time| time.saturating_duration_since(asked));
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

/// Tasks to ask about, and the answers.
#[derive(Debug, Default)]
struct Tasks {
    /// By ARN.
    tasks: BTreeMap<Box<str>, TaskRequest>,
    /// Details of container instances, by ARN.
    instances: BTreeMap<Box<str>, Vec<(Attribute, Box<str>)>>,
}

/// A task and the state of its request.
#[derive(Debug)]
struct TaskRequest {
    since: Instant,
    /// Time of the next request; `None` once the answer is complete.
    due: Option<Instant>,
    backoff: Backoff,
    instance: Box<str>,
    view: Option<TaskView>,
}

/// The next request.
enum Due {
    /// Request these tasks of a cluster now.
    Now(String, Vec<String>),
    /// Wait until this time; `None` for no time limit.
    At(Option<Instant>),
}

impl Tasks {
    /// Adds and removes tasks as the scene does. Returns true if a task is gone.
    fn take(&mut self, scene: &Scene, now: Instant) -> bool {
        for arn in &scene.arns {
            self.tasks.entry(arn.clone()).or_insert_with(|| TaskRequest {
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
            // The short form of a task's ARN has no cluster: the default one is assumed.
            let cluster = Arn::parse(arn).and_then(|arn| arn.cluster().map(str::to_owned));
            clusters
                .entry(cluster.unwrap_or_else(|| "default".into()))
                .or_default()
                .push(arn.to_string());
        }
        match clusters.pop_first() {
            Some((cluster, mut tasks)) => {
                tasks.truncate(AT_ONCE);
                Due::Now(cluster, tasks)
            }
            None => Due::At(self.tasks.values().filter_map(|task| task.due).min()),
        }
    }

    /// Stores the answer to a request of the tasks `asked`.
    fn learn(&mut self, asked: &[String], answers: &[Task], now: Instant) {
        for arn in asked {
            let Some(task) = self.tasks.get_mut(arn.as_str()) else { continue };
            let answer = answers.iter().find(|answer| answer.task_arn == *arn);
            if let Some(answer) = answer {
                task.instance = answer.container_instance_arn.as_str().into();
                task.view = task_view(answer);
            }
            // An ENI has no MAC address until it is attached.
            let attached = task.view.as_ref().is_some_and(|view| !view.enis.is_empty());
            let complete = answer.is_some_and(|answer| attached || answer.attachments.is_empty());
            let due = Some(now + task.backoff.pause());
            task.due = due.filter(|_| !complete && now.duration_since(task.since) < GIVE_UP);
        }
    }

    /// Container instances that have not been requested yet.
    fn new_instances(&self) -> BTreeSet<Box<str>> {
        let all = self.tasks.values().map(|task| &task.instance);
        all.filter(|arn| !arn.is_empty() && !self.instances.contains_key(*arn)).cloned().collect()
    }

    fn view(&self) -> View {
        let mut host = Vec::new();
        // A host is one container instance. An older task may name the one from before the host was
        // registered again.
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

/// Error of a call, with the permission that it needs.
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

/// The fields used of `DescribeContainerInstancesResponse`.
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
    /// Requests tasks of a cluster, and the container instance that they run on.
    async fn ask(
        &mut self,
        known: &mut Tasks,
        cluster: &str,
        tasks: &[String],
    ) -> Result<(), ApiError> {
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
            // Not an error: the tasks are useful without the details of their container instance.
            let details =
                instance_details(client, cluster, &instance).await.unwrap_or_else(|error| {
                    tracing::info!(%error, "the API gives no details of this container instance");
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
        add(
            &mut details,
            Attribute::InstanceId,
            instance.ec2_instance_id.as_deref().unwrap_or_default(),
        );
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

    const ARN: &str =
        "arn:aws:ecs:eu-west-1:111122223333:task/lab/0123456789abcdef0123456789abcdef";

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
        let mut known = Tasks::default();
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
            let answers: Vec<_> =
                tasks.iter().map(|arn| answer(arn, "0a:00:00:00:00:01")).collect();
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
        let mut known = Tasks::default();
        let start = Instant::now();
        known.take(&scene(&[ARN]), start);
        let asked = [ARN.to_owned()];
        known.learn(&asked, &[answer(ARN, "")], start);
        assert!(matches!(known.due(start), Due::At(Some(_))));
        known.learn(&asked, &[], start + GIVE_UP);
        assert!(matches!(known.due(start + GIVE_UP), Due::At(None)));
    }
}
