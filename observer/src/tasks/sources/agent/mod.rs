//! The state that the ECS agent keeps on disk: the only local source of the ids of branch ENIs.
//!
//! The format is not documented. Anything unexpected in it is an error of the source, so that it
//! never gives wrong values.

mod bolt;
mod meta;
mod state;

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use self::{
    meta::BoltError,
    state::{Host, Task},
};
use super::{backoff::Backoff, feed::Feed, scene::Scene};
use crate::tasks::view::View;

/// Database of agents since 1.44.
const DATABASE: &str = "agent.db";
/// File of older agents.
const FILE: &str = "ecs_agent_data.json";
/// Supported agent versions: the format did not change within this major version.
const AGENT_VERSIONS: &str = "1.";
/// Supported versions of the file's format: all that preceded the database.
const FILE_VERSIONS: std::ops::RangeInclusive<u64> = 1..=31;
const BUCKETS: [&str; 2] = ["tasks", "metadata"];
/// Resolution of modification times: changes within it may carry the same time.
const COARSE: Duration = Duration::from_millis(100);
/// Largest file, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Interval of checking for changes, in addition to every change of the scene.
const PERIOD: Duration = Duration::from_millis(500);
/// First and longest pause after an error.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// Error of reading the state.
#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Bolt { path: PathBuf, source: BoltError },
    // Without the parser's message, which may quote secrets of the file.
    #[error("{path}: it is not understood, at line {line}, column {column} of a value")]
    Parse { path: PathBuf, line: usize, column: usize },
    #[error("{path}: version {version} is not known")]
    Version { path: PathBuf, version: String },
    #[error(
        "{0}: there is neither agent.db nor ecs_agent_data.json: give the agent's folder with --agent-data"
    )]
    Nothing(PathBuf),
}

/// Reads the state whenever it has changed.
pub(super) async fn follow(folder: PathBuf, feed: Feed, mut scene: watch::Receiver<Arc<Scene>>) {
    let folder = Arc::<Path>::from(folder);
    let mut backoff = Backoff::new(PAUSES[0], PAUSES[1]);
    let mut version = None;
    loop {
        scene.borrow_and_update();
        let asked = Instant::now();
        let (of, before) = (Arc::clone(&folder), version);
        let read = spawn_blocking(move || changed(&of, before)).await;
        let pause = match read.unwrap_or_else(|panic| {
            Err(AgentError::Read { path: folder.to_path_buf(), source: io::Error::other(panic) })
        }) {
            Ok(read) => {
                if let Some((now, view)) = read {
                    version = Some(now);
                    feed.asked(true);
                    feed.view(view, asked);
                }
                feed.up();
                backoff.reset();
                PERIOD
            }
            Err(error) => {
                feed.asked(false);
                feed.down(error);
                version = None;
                backoff.pause()
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            changed = scene.changed(), if version.is_some() => if changed.is_err() { return },
        }
    }
}

/// Inode, size and modification time: they change when the file is written or replaced.
type Version = (u64, u64, i64, i64);

/// The state and its version; `None` if the version is still `before`.
fn changed(folder: &Path, before: Option<Version>) -> Result<Option<(Version, View)>, AgentError> {
    for (name, read) in
        [(DATABASE, database as fn(&File, &Path) -> Result<View, AgentError>), (FILE, legacy)]
    {
        let path = folder.join(name);
        let failed = |source| AgentError::Read { path: path.clone(), source };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            file => file.map_err(failed)?,
        };
        // Read before the content, so that a write in between is read the next time.
        let metadata = file.metadata().map_err(failed)?;
        let mut version =
            (metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if before == Some(version) {
            return Ok(None);
        }
        // Modification times are coarse: a later change may carry the same time.
        let young = metadata
            .modified()
            .ok()
            .and_then(|time| time.elapsed().ok())
            .is_none_or(|age| age < COARSE);
        if young {
            version.0 = 0;
        }
        return Ok(Some((version, read(&file, &path)?)));
    }
    // If the folder itself cannot be read, that is the error to report.
    fs::read_dir(folder)
        .map_err(|source| AgentError::Read { path: folder.to_path_buf(), source })?;
    Err(AgentError::Nothing(folder.to_path_buf()))
}

fn database(file: &File, path: &Path) -> Result<View, AgentError> {
    let bolt = |source| AgentError::Bolt { path: path.to_path_buf(), source };
    let parse = |error| not_understood(path, &error);
    let [tasks, metadata] = bolt::read(file, BUCKETS).map_err(bolt)?;
    let known = |name: &str| -> Result<String, serde_json::Error> {
        let value = metadata.iter().find(|(key, _)| key == name.as_bytes());
        value.map_or(Ok(String::new()), |(_, value)| serde_json::from_slice(value))
    };
    let version = known("agent-version").map_err(parse)?;
    if !version.is_empty() && !version.starts_with(AGENT_VERSIONS) {
        return Err(AgentError::Version { path: path.to_path_buf(), version });
    }
    let host = Host {
        cluster: known("cluster-name").map_err(parse)?,
        container_instance_arn: known("container-instance-arn").map_err(parse)?,
        instance_id: known("ec2-instance-id").map_err(parse)?,
    };
    let tasks = tasks.iter().map(|(_, value)| serde_json::from_slice::<Task>(value));
    Ok(state::view(&host, tasks.collect::<Result<Vec<_>, _>>().map_err(parse)?))
}

/// The file of older agents.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Legacy {
    version: u64,
    data: Data,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Data {
    cluster: String,
    container_instance_arn: String,
    #[serde(rename = "EC2InstanceID")]
    instance_id: String,
    task_engine: Engine,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Engine {
    tasks: Option<Vec<Task>>,
}

fn legacy(file: &File, path: &Path) -> Result<View, AgentError> {
    let failed = |source| AgentError::Read { path: path.to_path_buf(), source };
    if file.metadata().map_err(failed)?.len() > MAX_FILE {
        return Err(failed(io::Error::other("too long for the state of an agent")));
    }
    let Legacy { version, data } = serde_json::from_reader(io::BufReader::new(file))
        .map_err(|error| not_understood(path, &error))?;
    if !FILE_VERSIONS.contains(&version) {
        return Err(AgentError::Version { path: path.to_path_buf(), version: version.to_string() });
    }
    let host = Host {
        cluster: data.cluster,
        container_instance_arn: data.container_instance_arn,
        instance_id: data.instance_id,
    };
    Ok(state::view(&host, data.task_engine.tasks.into_iter().flatten()))
}

fn not_understood(path: &Path, error: &serde_json::Error) -> AgentError {
    AgentError::Parse { path: path.to_path_buf(), line: error.line(), column: error.column() }
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;
    use crate::tasks::Attribute;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn view(folder: &Path) -> Result<View, AgentError> {
        Ok(changed(folder, None)?.unwrap().1)
    }

    #[test]
    fn the_database_of_an_agent_is_read() {
        let folder = folder();
        let mut packed = GzDecoder::new(&include_bytes!("testdata/bbolt-1.3.6.db.gz")[..]);
        io::copy(&mut packed, &mut File::create(folder.path().join(DATABASE)).unwrap()).unwrap();
        let view = view(folder.path()).unwrap();
        assert_eq!(view.tasks.len(), 120);
        assert_eq!(
            view.tasks[7].enis[0].details,
            [(Attribute::InterfaceId, "eni-00000000000000007".into())]
        );
        assert_eq!(view.host.len(), 3);
    }

    const LEGACY: &str = r#"{"Version":31,"Data":{"Cluster":"lab","EC2InstanceID":"i-0a",
        "ContainerInstanceArn":"arn:aws:ecs:eu-west-1:111122223333:container-instance/lab/0011",
        "TaskEngine":{"Tasks":[{"Arn":"arn:aws:ecs:eu-west-1:111122223333:task/lab/a","KnownStatus":"RUNNING",
          "ENI":{"ec2Id":"eni-0a","MacAddress":"0a:00:00:00:00:01"}}],"IdToContainer":{"c1":{"secret":"s"}}}}}"#;

    #[test]
    fn the_file_of_older_agents_is_read() {
        let folder = folder();
        fs::write(folder.path().join(FILE), LEGACY).unwrap();
        let view = view(folder.path()).unwrap();
        assert_eq!(view.tasks[0].get(Attribute::ClusterName), Some("lab"));
        assert_eq!(&*view.tasks[0].enis[0].details[0].1, "eni-0a");
        assert_eq!(view.host.len(), 3);
    }

    #[test]
    fn an_unknown_format_is_an_error_that_quotes_nothing() {
        let folder = folder();
        for (text, word) in [
            (LEGACY.replace("31", "99"), "version 99"),
            (LEGACY.replace("\"Tasks\":[", "\"Tasks\":\"s3cret\",\"T\":["), "not understood"),
            ("{\"Version\": 31, ".into(), "not understood"),
        ] {
            fs::write(folder.path().join(FILE), text).unwrap();
            let error = view(folder.path()).unwrap_err().to_string();
            assert!(
                error.contains(word) && error.contains(FILE) && !error.contains("s3cret"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_folder_without_state_is_an_error_with_advice() {
        let folder = folder();
        let error = view(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--agent-data"), "{error}");
        let error = view(&folder.path().join("nowhere")).unwrap_err().to_string();
        assert!(error.contains("nowhere"), "{error}");
    }

    #[test]
    fn only_a_change_is_read_again() {
        let folder = folder();
        let path = folder.path().join(FILE);
        fs::write(&path, LEGACY).unwrap();
        // An old modification time, as of a file that has not just changed.
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_mins(1)).unwrap();
        let (version, _) = changed(folder.path(), None).unwrap().unwrap();
        assert!(changed(folder.path(), Some(version)).unwrap().is_none());
        fs::write(&path, LEGACY.replace("lab", "new")).unwrap();
        let (version, view) = changed(folder.path(), Some(version)).unwrap().unwrap();
        assert_eq!(view.tasks[0].get(Attribute::ClusterName), Some("new"));
        // The modification time is recent, so a later change could carry the same time: the file is
        // read again.
        assert!(changed(folder.path(), Some(version)).unwrap().is_some());
    }
}
