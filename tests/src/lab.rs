//! The private environment of a scenario: directories, namespaces, a daemon. Everything is removed
//! when it is dropped.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process, slice,
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result};
use nix::mount::{MntFlags, umount2};

use crate::{
    netns::Namespace,
    requires::Turn,
    veth::{Addresses, Task, quiet},
};

/// Prefix of every lab's folder; the process ID of its owner follows.
pub(crate) const PREFIX: &str = "observer-e2e-";

/// A scenario's environment.
#[derive(Debug)]
pub struct Lab {
    root: PathBuf,
    _turn: Turn,
}

impl Lab {
    /// Creates a lab for `test` once `turns` turns are free, and removes leftovers of killed runs.
    pub fn new(test: &str, turns: usize) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static TIDY: Once = Once::new();
        let turn = Turn::take(turns);
        TIDY.call_once(remove_leftovers);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = test.replace("::", "-");
        let root = env::temp_dir().join(format!("{PREFIX}{}-{number}-{name}", process::id()));
        for folder in ["tasks", "peers"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(Self { root, _turn: turn })
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Folder of the tasks' namespaces, which the daemon observes.
    pub fn netns_dir(&self) -> PathBuf {
        self.path("tasks")
    }

    /// Creates an observed namespace.
    pub fn observed_namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.netns_dir().join(name))
    }

    /// Creates a namespace that is not observed.
    pub fn other_namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.path("peers").join(name))
    }

    /// Creates a task with an `eth0`, whose other end is in a namespace that is not observed.
    pub fn task(&self, name: &str) -> Result<Task> {
        self.task_with(name, Addresses::default())
    }

    /// [`task`](Self::task) with chosen addresses.
    pub fn task_with(&self, name: &str, addresses: Addresses) -> Result<Task> {
        let task =
            Task::join(self.observed_namespace(name)?, self.other_namespace(name)?, addresses)?;
        quiet(slice::from_ref(&task))?;
        Ok(task)
    }

    /// A task without IPv6, so that it sends nothing by itself. It may be created while a daemon
    /// runs.
    pub fn late_task(&self, name: &str) -> Result<Task> {
        self.task_with(name, Addresses { ipv6: false, ..Addresses::default() })
    }

    /// Creates a task for each name, all with the same interface names and addresses.
    pub fn tasks(&self, names: impl IntoIterator<Item = String>) -> Result<Vec<Task>> {
        let tasks: Result<Vec<_>> = names
            .into_iter()
            .map(|name| {
                Task::join(
                    self.observed_namespace(&name)?,
                    self.other_namespace(&name)?,
                    Addresses::default(),
                )
            })
            .collect();
        let tasks = tasks?;
        quiet(&tasks)?;
        Ok(tasks)
    }

    /// Creates two connected tasks, both observed.
    pub fn observed_pair(&self) -> Result<Task> {
        let task = Task::join(
            self.observed_namespace("one")?,
            self.observed_namespace("two")?,
            Addresses::default(),
        )?;
        quiet(slice::from_ref(&task))?;
        Ok(task)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Unmounts and removes the labs of processes that have ended.
fn remove_leftovers() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|process: u32| !Path::new(&format!("/proc/{process}")).exists()) {
            remove(&entry.path());
        }
    }
}

pub(crate) fn remove(root: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut below: Vec<_> = mounts.filter(|mount| mount.starts_with(root)).collect();
    // Later mounts may be on top of earlier ones.
    below.reverse();
    for mount in below {
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(root);
}
