//! Stand-ins for the ECS agent and EC2, with their status codes: introspection, task metadata,
//! instance metadata, and the agent's state on disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use anyhow::Result;
use nut::DBBuilder;
use serde_json::json;

use crate::{
    fake_ecs::FakeTask,
    fake_http::{FakeHttp, Reply, Request},
    veth::Mac,
};

/// A value that a scenario changes while a server reads it.
#[derive(Debug)]
pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// Wraps an initial value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Locks the value.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agent's introspection endpoint.
pub fn introspection(tasks: &Shared<Vec<FakeTask>>) -> Result<FakeHttp> {
    let tasks = tasks.clone();
    FakeHttp::start(move |request| {
        let tasks = tasks.lock();
        match request.path.as_str() {
            "/v1/metadata" => {
                let instance = tasks.first().map(FakeTask::instance_arn);
                let cluster = tasks.first().map_or("", |task| task.cluster.as_str());
                let version = "Amazon ECS Agent - v1.105.1 (*a8b3e7d3)";
                Reply::ok(
                    json!({"Cluster": cluster, "ContainerInstanceArn": instance, "Version": version})
                        .to_string(),
                )
            }
            "/v1/tasks" => {
                let tasks: Vec<_> = tasks.iter().map(FakeTask::introspected).collect();
                Reply::ok(json!({"Tasks": tasks}).to_string())
            }
            _ => Reply::status(404),
        }
    })
}

/// The task metadata endpoint, version 4, as the host reaches it.
#[derive(Debug)]
pub struct Tmds {
    /// The server.
    pub http: FakeHttp,
    /// Number of coming requests that are answered with 429, too many requests.
    pub throttled: Arc<AtomicUsize>,
}

/// The task metadata endpoint for these tasks, which are found by their containers' IDs.
pub fn tmds(tasks: &Shared<Vec<FakeTask>>) -> Result<Tmds> {
    let tasks = tasks.clone();
    let throttled = Arc::new(AtomicUsize::new(0));
    let left = Arc::clone(&throttled);
    let http = FakeHttp::start(move |request| {
        let take = |left: usize| left.checked_sub(1);
        if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
            return Reply::status(429);
        }
        let id = request.path.strip_prefix("/v4/").and_then(|path| path.strip_suffix("/task"));
        let tasks = tasks.lock();
        match tasks.iter().find(|task| id.is_some_and(|id| task.endpoint(id))) {
            Some(task) => Reply::ok(task.metadata().to_string()),
            None => Reply::Answer(
                404,
                "V4 metadata handler: unable to get task arn from request".into(),
            ),
        }
    })?;
    Ok(Tmds { http, throttled })
}

/// Behaviour of the instance metadata service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Answers correctly.
    Fine,
    /// Answers every request except token requests with this status.
    Status(u16),
    /// Invalidates every token after this many requests.
    Forgetful(u32),
    /// Accepts connections and answers none.
    Silent,
}

/// The EC2 instance and its ENIs.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Behaviour of its metadata service.
    pub mood: Mood,
    /// MAC addresses and IDs of its ENIs, the primary one first.
    pub enis: Vec<(Mac, String)>,
    token: u32,
    uses: u32,
}

/// ID of the instance.
pub const INSTANCE: &str = "i-0123456789abcdef0";
/// ID of its VPC.
pub const VPC: &str = "vpc-0f00000000000000a";
/// ID of its subnet.
pub const SUBNET: &str = "subnet-0f00000000000000b";
/// ID of its availability zone.
pub const AZ: &str = "euw1-az2";

impl Instance {
    /// An instance with these ENIs.
    pub fn new(enis: impl IntoIterator<Item = (Mac, String)>) -> Self {
        Self { mood: Mood::Fine, enis: enis.into_iter().collect(), token: 1, uses: 0 }
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if self.mood == Mood::Silent {
            return Reply::Silence;
        }
        if request.headers.contains_key("x-forwarded-for") {
            return Reply::status(403);
        }
        let header =
            |name: &str| request.headers.get(name).and_then(|value| value.parse::<u32>().ok());
        if request.path == "/latest/api/token" {
            let ttl = header("x-aws-ec2-metadata-token-ttl-seconds");
            return match (request.method.as_str(), ttl) {
                ("PUT", Some(1..=21_600)) => Reply::ok(self.token.to_string()),
                ("PUT", _) => Reply::status(400),
                _ => Reply::status(405),
            };
        }
        if header("x-aws-ec2-metadata-token") != Some(self.token) {
            return Reply::status(401);
        }
        match self.mood {
            Mood::Status(status) => return Reply::status(status),
            Mood::Forgetful(after) => {
                self.uses += 1;
                if self.uses.is_multiple_of(after) {
                    self.token += 1;
                }
            }
            Mood::Fine | Mood::Silent => {}
        }
        self.leaf(&request.path).map_or(Reply::status(404), Reply::ok)
    }

    fn leaf(&self, path: &str) -> Option<String> {
        const MACS: &str = "meta-data/network/interfaces/macs/";
        let path = path.strip_prefix("/latest/")?;
        if let Some(rest) = path.strip_prefix(MACS).filter(|rest| !rest.is_empty()) {
            let (mac, leaf) = rest.split_once('/')?;
            let number = self.enis.iter().position(|(known, _)| known.to_string() == mac)?;
            return Some(match leaf {
                "interface-id" => self.enis[number].1.clone(),
                "owner-id" => "123456789012".into(),
                "subnet-id" => SUBNET.into(),
                "vpc-id" => VPC.into(),
                "local-ipv4s" => format!("10.9.0.{}\n10.9.1.{}", number + 1, number + 1),
                _ => return None,
            });
        }
        Some(match path {
            "dynamic/instance-identity/document" => {
                json!({"accountId": "123456789012", "region": "eu-west-1", "instanceId": INSTANCE})
                    .to_string()
            }
            "meta-data/mac" => self.enis.first()?.0.to_string(),
            "meta-data/placement/availability-zone-id" => AZ.into(),
            MACS => {
                self.enis.iter().map(|(mac, _)| format!("{mac}/")).collect::<Vec<_>>().join("\n")
            }
            _ => return None,
        })
    }
}

/// The instance metadata service, version 2.
pub fn imds(instance: &Shared<Instance>) -> Result<FakeHttp> {
    let instance = instance.clone();
    FakeHttp::start(move |request| instance.lock().answer(request))
}

/// Writes the agent's database, as one transaction leaves it.
pub fn write_state<'a>(
    folder: &Path,
    tasks: impl IntoIterator<Item = &'a FakeTask>,
) -> Result<PathBuf> {
    let path = folder.join("agent.db");
    std::fs::create_dir_all(folder)?;
    let tasks: Vec<&FakeTask> = tasks.into_iter().collect();
    let mut metadata = BTreeMap::from([
        ("agent-version", "1.105.1".to_owned()),
        ("ec2-instance-id", INSTANCE.to_owned()),
    ]);
    if let Some(task) = tasks.first() {
        metadata.insert("cluster-name", task.cluster.clone());
        metadata.insert("container-instance-arn", task.instance_arn());
    }
    let mut database =
        DBBuilder::new(&path).build().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    let mut transaction = database.begin_rw_tx().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    for (bucket, pairs) in [
        (
            "tasks",
            tasks
                .iter()
                .map(|task| (task.id.clone(), task.state().to_string()))
                .collect::<Vec<_>>(),
        ),
        (
            "metadata",
            metadata
                .iter()
                .map(|(key, value)| ((*key).to_owned(), json!(value).to_string()))
                .collect(),
        ),
    ] {
        let mut bucket = transaction
            .create_bucket_if_not_exists(bucket.as_bytes())
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        for (key, value) in pairs {
            bucket
                .put(key.as_bytes(), value.into_bytes())
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
    }
    transaction.commit().map_err(|error| anyhow::anyhow!("{error:?}"))?;
    Ok(path)
}
