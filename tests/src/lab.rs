//! A scenario's private place: directories, namespaces, a daemon. All of it is gone when it is dropped.

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
    daemon::Setup,
    netns::Namespace,
    requires::Turn,
    veth::{Addresses, Task, quiet},
};

/// Begins the name of every place, before the number of the process that owns it.
pub(crate) const PREFIX: &str = "observer-e2e-";

/// The place.
#[derive(Debug)]
pub struct Lab {
    root: PathBuf,
    _turn: Turn,
}

impl Lab {
    /// Makes a place for `test` once `turns` are free, and removes what killed runs left behind.
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
            fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        }
        Ok(Self { root, _turn: turn })
    }

    /// A path inside.
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Where the namespaces of tasks lie: what the daemon is told to look at.
    pub fn netns_dir(&self) -> PathBuf {
        self.path("tasks")
    }

    /// A namespace that the daemon looks at.
    pub fn observed_namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.netns_dir().join(name))
    }

    /// A namespace that it does not look at.
    pub fn other_namespace(&self, name: &str) -> Result<Namespace> {
        Namespace::create(&self.path("peers").join(name))
    }

    /// A task with an `eth0`, whose other end lies in a namespace that the daemon does not look at.
    pub fn task(&self, name: &str) -> Result<Task> {
        self.task_with(name, Addresses::default())
    }

    /// [`task`](Self::task) with addresses of the scenario's choice.
    pub fn task_with(&self, name: &str, addresses: Addresses) -> Result<Task> {
        let task = Task::join(self.observed_namespace(name)?, self.other_namespace(name)?, addresses)?;
        quiet(slice::from_ref(&task))?;
        Ok(task)
    }

    /// A task that is silent from the beginning, because it has no IPv6: one that may come while a daemon runs.
    pub fn late_task(&self, name: &str) -> Result<Task> {
        self.task_with(name, Addresses { ipv6: false, ..Addresses::default() })
    }

    /// As many tasks as there are names, all with the same interface names and addresses.
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

    /// A task whose other end the daemon observes too, as another task.
    pub fn observed_pair(&self) -> Result<Task> {
        let task = Task::join(
            self.observed_namespace("one")?,
            self.observed_namespace("two")?,
            Addresses::default(),
        )?;
        quiet(slice::from_ref(&task))?;
        Ok(task)
    }

    /// A daemon to set up and start.
    pub fn daemon(&self) -> Setup<'_> {
        Setup::new(self)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Unmounts and removes the places of processes that are gone.
fn remove_leftovers() {
    for entry in fs::read_dir(env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok());
        if owner.is_some_and(|process: u32| !Path::new(&format!("/proc/{process}")).exists()) {
            remove(&entry.path());
        }
    }
}

pub(crate) fn remove(root: &Path) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter_map(|line| line.split(' ').nth(4)).map(Path::new);
    let mut below: Vec<_> = mounts.filter(|mount| mount.starts_with(root)).collect();
    // What was mounted last may lie on what was mounted first.
    below.reverse();
    for mount in below {
        let _ = umount2(mount, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir_all(root);
}
