//! The folders and names of files.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use observer_tests::{
    daemon::run_to_end,
    fake_ecs::{self, FakeTask},
    lab,
    records::finished,
};

/// Partitions and their folders. A is the account, R the region, and Y, M, D and H are parts of the
/// time.
const PARTITIONS: [(&str, &[&str]); 4] = [
    ("none", &["AWSLogs", "A", "vpcflowlogs", "R", "Y", "M", "D"]),
    ("hourly", &["AWSLogs", "A", "vpcflowlogs", "R", "Y", "M", "D", "H"]),
    (
        "hive",
        &[
            "AWSLogs",
            "aws-account-id=A",
            "aws-service=vpcflowlogs",
            "aws-region=R",
            "year=Y",
            "month=M",
            "day=D",
        ],
    ),
    (
        "hive-hourly",
        &[
            "AWSLogs",
            "aws-account-id=A",
            "aws-service=vpcflowlogs",
            "aws-region=R",
            "year=Y",
            "month=M",
            "day=D",
            "hour=H",
        ],
    ),
];

/// Asserts that a file's name and folders are those of this task and this partition.
fn assert_lies_in(path: &str, folders: &[&str], ecs: &FakeTask) -> Result<()> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (name, found) = parts.split_last().context("a name")?;
    // The source's fields of the task override those given for the host.
    let stem = format!("{}_vpcflowlogs_{}_fl-0123456789abcdef0_", ecs.account, ecs.region);
    assert!(name.starts_with(&stem), "{name}");
    assert_eq!(found.len(), folders.len(), "{path}");
    for (found, wanted) in found.iter().zip(folders) {
        let (key, found) = found.split_once('=').map_or(("", *found), |(key, value)| (key, value));
        let (wanted_key, wanted) = wanted.split_once('=').unwrap_or(("", wanted));
        assert_eq!(key, wanted_key, "{path}");
        let fits = match wanted {
            "A" => found == ecs.account,
            "R" => found == ecs.region,
            "Y" => digits(found, 4),
            "M" | "D" | "H" => digits(found, 2),
            word => found == word,
        };
        assert!(fits, "{found} for {wanted} in {path}");
    }
    Ok(())
}

#[test]
fn files_lie_in_the_folders_that_were_asked_for() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let ecs = FakeTask::new(&task.inside, "web", 1);
    let tasks = fake_ecs::write(&lab.path("tasks.json"), [&ecs])?;
    for (partition, folders) in PARTITIONS {
        let setup = lab
            .daemon()
            .name(partition)
            .tasks_file(&tasks)
            .also_output("text")
            .also_output("parquet");
        let setup = setup.set("partition", partition).set("flow-log-id", "fl-0123456789abcdef0");
        let daemon = setup.set("account-id", "999999999999").set("region", "us-east-1").start()?;
        daemon.wait_attached(&task.inside)?;
        let out = daemon.stop()?.out;
        for ending in ["jsonl", "log.gz", "log.parquet"] {
            let files = finished(&out, ending)?;
            assert_eq!(files.len(), 1, "{partition}: files that end with {ending}");
            for file in files {
                let path = file.strip_prefix(&out)?.to_str().context("UTF-8")?;
                assert_lies_in(path, folders, &ecs)?;
            }
        }
    }
    Ok(())
}

/// Modes and groups of everything below a folder, which is in the list too.
fn access(folder: &Path) -> Result<Vec<(PathBuf, u32, u32)>> {
    let of = |path: &Path| {
        let metadata = fs::symlink_metadata(path)?;
        Ok::<_, io::Error>((path.to_path_buf(), metadata.mode() & 0o7777, metadata.gid()))
    };
    let mut found = vec![of(folder)?];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(access(&path)?);
        } else {
            found.push(of(&path)?);
        }
    }
    Ok(found)
}

#[test]
fn files_and_folders_have_their_modes_and_group_whatever_the_umask() -> Result<()> {
    const GROUP: u32 = 4242;
    let lab = lab!();
    let task = lab.task("task")?;
    for (name, umask) in [("open", 0o000), ("usual", 0o022), ("closed", 0o777)] {
        let setup = lab.daemon().name(name).umask(umask).also_output("text");
        let daemon = setup.set("output-group", GROUP.to_string()).start()?;
        daemon.wait_attached(&task.inside)?;
        let out = daemon.out().to_path_buf();
        daemon.stop()?;
        assert_eq!(finished(&out, "log.gz")?.len(), 1, "umask {umask:o}");
        for (path, mode, group) in access(&out)? {
            let wanted = if path.is_dir() { 0o750 } else { 0o640 };
            assert_eq!((mode, group), (wanted, GROUP), "umask {umask:o}: {}", path.display());
        }
    }
    Ok(())
}

#[test]
fn links_in_the_state_directory_are_not_followed() -> Result<()> {
    let lab = lab!();
    let task = lab.task("task")?;
    let (state, precious) = (lab.path("daemon-state"), lab.path("precious"));
    fs::write(&precious, "precious")?;
    fs::create_dir(&state)?;
    symlink(&precious, state.join("lock"))?;
    let mut command = lab.daemon().command()?.0;
    let exit = run_to_end(&mut command, Duration::from_secs(10))?;
    assert_eq!(exit.status.code(), Some(2), "{}", exit.stderr);
    assert!(exit.stderr.contains("daemon-state"), "{}", exit.stderr);

    fs::remove_file(state.join("lock"))?;
    symlink(&precious, state.join("recorded-until.new"))?;
    let daemon = lab.daemon().window(1).umask(0).start()?;
    daemon.wait_attached(&task.inside)?;
    daemon.wait_windows(2)?;
    daemon.wait_said("the watermark cannot be written")?;
    daemon.stop()?;
    assert_eq!(fs::read_to_string(&precious)?, "precious", "the target of the links");
    assert_eq!(fs::metadata(state.join("lock"))?.mode() & 0o777, 0o600, "the lock");
    Ok(())
}
