//! Saved output of `aws ecs describe-tasks`: one answer, or several after each other.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Attribute, Fact, Mac, Source};

/// Why a tasks file is of no use.
#[derive(Debug, thiserror::Error)]
pub enum TasksFileError {
    /// It cannot be read.
    #[error("tasks file {path}: {source}: give the file that holds the output of `aws ecs describe-tasks`")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what `aws ecs describe-tasks` prints.
    #[error("tasks file {path}: {source}: save the output of `aws ecs describe-tasks --output json` there")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why not.
        source: serde_json::Error,
    },
}

/// What a tasks file says, by the MAC addresses of the tasks' ENIs. Follows changes of the file.
#[derive(Debug)]
pub struct TasksFile {
    path: PathBuf,
    version: Version,
    facts: BTreeMap<Mac, Vec<Fact>>,
}

/// What changes when a file is written, or replaced by another.
type Version = (u64, u64, i64, i64);

impl TasksFile {
    /// Reads it.
    pub fn open(path: &Path) -> Result<Self, TasksFileError> {
        let mut file = Self { path: path.to_path_buf(), version: (0, 0, 0, 0), facts: BTreeMap::new() };
        file.refresh()?;
        Ok(file)
    }

    /// Reads it again if it changed, and says whether it did. After an error the facts of before still hold.
    pub fn refresh(&mut self) -> Result<bool, TasksFileError> {
        let read = |source| TasksFileError::Read { path: self.path.clone(), source };
        let metadata = fs::metadata(&self.path).map_err(read)?;
        if !metadata.is_file() {
            return Err(read(io::Error::other("no regular file")));
        }
        let version = (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if version == self.version {
            return Ok(false);
        }
        let text = fs::read(&self.path).map_err(read)?;
        // Once is enough to say that a version is unreadable.
        self.version = version;
        self.facts =
            parse(&text).map_err(|source| TasksFileError::Parse { path: self.path.clone(), source })?;
        Ok(true)
    }

    /// What it says of an ENI.
    pub fn facts(&self, mac: Mac) -> &[Fact] {
        self.facts.get(&mac).map_or(&[], Vec::as_slice)
    }
}

/// `DescribeTasksResponse` of the Amazon ECS API, as far as it matters here.
#[derive(Deserialize)]
struct Answer {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::struct_field_names, reason = "the API's names")]
struct Task {
    task_arn: String,
    #[serde(default)]
    cluster_arn: String,
    #[serde(default)]
    container_instance_arn: String,
    #[serde(default)]
    task_definition_arn: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    attachments: Vec<Attachment>,
    #[serde(default)]
    containers: Vec<Container>,
}

#[derive(Deserialize)]
struct Attachment {
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    name: String,
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Container {
    #[serde(default)]
    runtime_id: String,
}

fn parse(text: &[u8]) -> Result<BTreeMap<Mac, Vec<Fact>>, serde_json::Error> {
    let mut facts = BTreeMap::new();
    let mut answers = 0;
    for answer in serde_json::Deserializer::from_slice(text).into_iter::<Answer>() {
        answers += 1;
        for task in answer?.tasks {
            for attachment in &task.attachments {
                let detail = |name| {
                    let detail = attachment.details.iter().find(|detail| detail.name == name);
                    detail.map_or("", |detail| detail.value.as_str())
                };
                if let Ok(mac) = detail("macAddress").parse() {
                    facts.insert(mac, task_facts(&task, detail("networkInterfaceId"), detail("subnetId")));
                }
            }
        }
    }
    if answers == 0 {
        // What serde_json says of an empty text.
        serde_json::from_slice::<Answer>(text)?;
    }
    Ok(facts)
}

fn task_facts(task: &Task, interface_id: &str, subnet_id: &str) -> Vec<Fact> {
    let arn = Arn::parse(&task.task_arn);
    let cluster = Arn::parse(&task.cluster_arn);
    let definition = Arn::parse(&task.task_definition_arn);
    let family = definition.name.rsplit_once(':').map_or(definition.name, |(family, _)| family);
    let container = |number: usize| task.containers.get(number).map_or("", |c| c.runtime_id.as_str());
    [
        (Attribute::InterfaceId, interface_id),
        (Attribute::SubnetId, subnet_id),
        (Attribute::AccountId, arn.account),
        (Attribute::Region, arn.region),
        (Attribute::ClusterArn, &task.cluster_arn),
        (Attribute::ClusterName, cluster.name),
        (Attribute::ContainerInstanceArn, &task.container_instance_arn),
        (Attribute::ContainerInstanceId, Arn::parse(&task.container_instance_arn).name),
        (Attribute::ContainerId, container(0)),
        (Attribute::SecondContainerId, container(1)),
        (Attribute::ServiceName, task.group.strip_prefix("service:").unwrap_or("")),
        (Attribute::TaskDefinitionArn, &task.task_definition_arn),
        (Attribute::TaskArn, &task.task_arn),
        (Attribute::TaskId, arn.name),
        (Attribute::Family, family),
        // Only tasks in this mode have an ENI of their own.
        (Attribute::NetworkMode, "awsvpc"),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(attribute, value)| Fact { attribute, value: value.into(), source: Source::File })
    .collect()
}

/// The parts of an Amazon Resource Name; empty where there are none.
struct Arn<'a> {
    region: &'a str,
    account: &'a str,
    /// Behind the last slash: the task's id, the cluster's name.
    name: &'a str,
}

impl<'a> Arn<'a> {
    /// `arn:partition:service:region:account:kind/…/name`
    fn parse(text: &'a str) -> Self {
        let mut parts = text.splitn(6, ':').skip(3);
        let region = parts.next().unwrap_or("");
        let account = parts.next().unwrap_or("");
        let resource = parts.next().unwrap_or("");
        let name = resource.rsplit_once('/').map_or("", |(_, name)| name);
        Self { region, account, name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"tasks": [{
        "taskArn": "arn:aws:ecs:eu-west-1:111122223333:task/lab/0123456789abcdef0123456789abcdef",
        "clusterArn": "arn:aws:ecs:eu-west-1:111122223333:cluster/lab",
        "containerInstanceArn": "arn:aws:ecs:eu-west-1:111122223333:container-instance/lab/00112233",
        "taskDefinitionArn": "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7",
        "group": "service:web",
        "attachments": [{"id": "1", "type": "ElasticNetworkInterface", "status": "ATTACHED", "details": [
            {"name": "subnetId", "value": "subnet-0a"}, {"name": "networkInterfaceId", "value": "eni-0a"},
            {"name": "macAddress", "value": "0A:00:00:00:00:01"}]}],
        "containers": [{"runtimeId": "aa"}, {"runtimeId": "bb"}]
    }], "failures": []}"#;

    fn value(facts: &[Fact], attribute: Attribute) -> &str {
        facts.iter().find(|fact| fact.attribute == attribute).map_or("", |fact| &fact.value)
    }

    #[test]
    fn an_eni_leads_to_its_task() {
        let facts = parse(ANSWER.as_bytes()).unwrap();
        let facts = &facts[&"0a:00:00:00:00:01".parse().unwrap()];
        for (attribute, expected) in [
            (Attribute::InterfaceId, "eni-0a"),
            (Attribute::SubnetId, "subnet-0a"),
            (Attribute::AccountId, "111122223333"),
            (Attribute::Region, "eu-west-1"),
            (Attribute::ClusterName, "lab"),
            (Attribute::ContainerInstanceId, "00112233"),
            (Attribute::ServiceName, "web"),
            (Attribute::Family, "web"),
            (Attribute::TaskId, "0123456789abcdef0123456789abcdef"),
            (Attribute::ContainerId, "aa"),
            (Attribute::SecondContainerId, "bb"),
            (Attribute::NetworkMode, "awsvpc"),
        ] {
            assert_eq!(value(facts, attribute), expected, "{attribute:?}");
        }
    }

    #[test]
    fn several_answers_in_one_file_are_all_read() {
        let second = ANSWER.replace("0A:00:00:00:00:01", "0a:00:00:00:00:02").replace("eni-0a", "eni-0b");
        let facts = parse(format!("{ANSWER}\n{second}\n").as_bytes()).unwrap();
        assert_eq!(facts.len(), 2);
        assert_eq!(value(&facts[&"0a:00:00:00:00:02".parse().unwrap()], Attribute::InterfaceId), "eni-0b");
    }

    #[test]
    fn what_is_no_answer_is_refused_with_its_place() {
        for text in ["", "{", "[]", "{\"tasks\": 1}", "{\"tasks\": [{}]}", &ANSWER[..200]] {
            assert!(parse(text.as_bytes()).unwrap_err().to_string().contains("line"), "{text:?}");
        }
    }

    #[test]
    fn a_standalone_task_has_no_service() {
        let facts = parse(ANSWER.replace("service:web", "family:web").as_bytes()).unwrap();
        assert_eq!(value(&facts[&"0a:00:00:00:00:01".parse().unwrap()], Attribute::ServiceName), "");
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_leaves_what_was_known() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        fs::write(&path, "{\"tasks\": []}").unwrap();
        let mut file = TasksFile::open(&path).unwrap();
        let mac = "0a:00:00:00:00:01".parse().unwrap();
        assert!(file.facts(mac).is_empty());
        fs::write(&path, ANSWER).unwrap();
        assert!(file.refresh().unwrap());
        assert!(!file.refresh().unwrap());
        assert!(!file.facts(mac).is_empty());
        fs::write(&path, "{").unwrap();
        file.refresh().unwrap_err();
        assert!(!file.facts(mac).is_empty());
    }
}
