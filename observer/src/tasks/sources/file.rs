//! Saved output of `aws ecs describe-tasks`: one answer, or several in sequence.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    describe_tasks::{Answer, task_view},
    feed::Feed,
};
use crate::{
    tasks::{Identity, Mac, Source, resolve::identity_of, view::View},
    text_file::{EncodingError, utf8},
};

/// Error of reading a tasks file.
#[derive(Debug, thiserror::Error)]
pub enum TasksFileError {
    /// The file cannot be read.
    #[error(
        "tasks file {path}: {source}: give the file that holds the output of `aws ecs describe-tasks`"
    )]
    Read {
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not UTF-8 text.
    #[error("tasks file {path}: {source}")]
    Encoding {
        /// Path of the file.
        path: PathBuf,
        /// The encoding that was found.
        source: EncodingError,
    },
    /// The file is not output of `aws ecs describe-tasks`.
    #[error(
        "tasks file {path}: {source}: save the output of `aws ecs describe-tasks --output json` there"
    )]
    Parse {
        /// Path of the file.
        path: PathBuf,
        /// Error and its place.
        source: serde_json::Error,
    },
}

/// A tasks file and its current view.
#[derive(Debug)]
pub struct TasksFile {
    path: PathBuf,
    version: Version,
    view: View,
}

/// Inode, size and modification time: they change when the file is written or replaced.
type Version = (u64, u64, i64, i64);

/// Interval of checking the file for changes.
const PERIOD: Duration = Duration::from_secs(1);

impl TasksFile {
    /// Reads a tasks file.
    pub fn open(path: &Path) -> Result<Self, TasksFileError> {
        let mut file =
            Self { path: path.to_path_buf(), version: (0, 0, 0, 0), view: View::default() };
        file.refresh()?;
        Ok(file)
    }

    /// Reads the file again if it has changed, and returns true if it has. On an error the last
    /// view stays in force.
    fn refresh(&mut self) -> Result<bool, TasksFileError> {
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
        // Set before parsing, so that the error of an unreadable version is reported once.
        self.version = version;
        let path = || self.path.clone();
        let text =
            utf8(&text).map_err(|source| TasksFileError::Encoding { path: path(), source })?;
        self.view = parse(text).map_err(|source| TasksFileError::Parse { path: path(), source })?;
        Ok(true)
    }

    /// Identity of the ENI with this MAC address, and of its task.
    pub fn identity(&self, mac: Mac) -> Identity {
        identity_of(mac, Source::File, &self.view)
    }

    /// The current view.
    pub(in crate::tasks) fn view(&self) -> &View {
        &self.view
    }
}

/// Reads the file whenever it has changed.
pub(super) async fn follow(mut file: TasksFile, feed: Feed) {
    feed.up();
    loop {
        sleep(PERIOD).await;
        let asked = Instant::now();
        match file.refresh() {
            Ok(false) => {}
            Ok(true) => {
                feed.asked(true);
                feed.view(file.view.clone(), asked);
                feed.up();
            }
            Err(error) => {
                feed.asked(false);
                feed.down(error);
            }
        }
    }
}

fn parse(text: &str) -> Result<View, serde_json::Error> {
    let mut view = View::default();
    let mut answers = 0;
    for answer in serde_json::Deserializer::from_str(text).into_iter::<Answer>() {
        answers += 1;
        view.tasks.extend(answer?.tasks.iter().filter_map(task_view));
    }
    if answers == 0 {
        // Returns serde_json's error for an empty text.
        serde_json::from_str::<Answer>(text)?;
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Attribute, hostile, view::EniView};

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

    #[test]
    fn an_eni_leads_to_its_task() {
        let view = parse(ANSWER).unwrap();
        let [task] = &view.tasks[..] else { panic!("{view:?}") };
        for (attribute, expected) in [
            (Attribute::AccountId, "111122223333"),
            (Attribute::Region, "eu-west-1"),
            (Attribute::ClusterName, "lab"),
            (Attribute::ContainerInstanceId, "00112233"),
            (Attribute::ServiceName, "web"),
            (Attribute::Family, "web"),
            (
                Attribute::TaskDefinitionArn,
                "arn:aws:ecs:eu-west-1:111122223333:task-definition/web:7",
            ),
            (Attribute::TaskId, "0123456789abcdef0123456789abcdef"),
            (Attribute::NetworkMode, "awsvpc"),
        ] {
            assert_eq!(task.get(attribute), Some(expected), "{attribute:?}");
        }
        let details =
            [(Attribute::InterfaceId, "eni-0a".into()), (Attribute::SubnetId, "subnet-0a".into())];
        assert_eq!(
            task.enis,
            [EniView { mac: "0a:00:00:00:00:01".parse().unwrap(), details: details.into() }]
        );
        let containers: Vec<_> = task.containers.iter().map(|container| &*container.id).collect();
        assert_eq!(containers, ["aa", "bb"]);
    }

    #[test]
    fn several_answers_in_one_file_are_all_read() {
        let second =
            ANSWER.replace("0A:00:00:00:00:01", "0a:00:00:00:00:02").replace("eni-0a", "eni-0b");
        let view = parse(&format!("{ANSWER}\n{second}\n")).unwrap();
        assert_eq!(view.tasks.len(), 2);
        assert_eq!(&*view.tasks[1].enis[0].details[0].1, "eni-0b");
    }

    #[test]
    fn an_invalid_file_is_an_error_with_its_place() {
        for text in ["", "{", "[]", "{\"tasks\": 1}", "{\"tasks\": [{}]}", &ANSWER[..200]] {
            assert!(parse(text).unwrap_err().to_string().contains("line"), "{text:?}");
        }
    }

    #[test]
    fn a_standalone_task_has_no_service() {
        let view = parse(&ANSWER.replace("service:web", "family:web")).unwrap();
        assert_eq!(view.tasks[0].get(Attribute::ServiceName), None);
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_keeps_the_last_view() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tasks.json");
        fs::write(&path, "{\"tasks\": []}").unwrap();
        let mut file = TasksFile::open(&path).unwrap();
        assert_eq!(file.view().tasks, []);
        fs::write(&path, ANSWER).unwrap();
        assert!(file.refresh().unwrap());
        assert!(!file.refresh().unwrap());
        assert_eq!(file.view().tasks.len(), 1);
        fs::write(&path, "{").unwrap();
        file.refresh().unwrap_err();
        assert_eq!(file.view().tasks.len(), 1);
    }

    #[test]
    fn texts_of_every_kind_become_single_words() {
        hostile::assert_words(ANSWER, |text| parse(text).ok());
    }
}
