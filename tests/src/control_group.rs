//! A control group with a memory limit, of version 1 or 2.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use crate::{
    lab::PREFIX,
    poll::{self, PATIENCE},
    requires::Missing,
};

/// A control group. It is removed with this value, once its processes have ended.
#[derive(Debug)]
pub struct ControlGroup {
    folder: PathBuf,
    file: &'static str,
}

/// Mount point of a hierarchy with the memory controller, and the name of the file with its limit.
fn hierarchy() -> Option<(PathBuf, &'static str)> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mounted = |wanted: &dyn Fn(&str, &str) -> bool| {
        table.lines().find_map(|line| {
            let (place, source) = line.split_once(" - ")?;
            let mut source = source.split(' ');
            let (kind, options) = (source.next()?, source.nth(1)?);
            wanted(kind, options).then(|| place.split(' ').nth(4).map(PathBuf::from))?
        })
    };
    if let Some(folder) =
        mounted(&|kind, options| kind == "cgroup" && options.split(',').any(|it| it == "memory"))
    {
        return Some((folder, "memory.limit_in_bytes"));
    }
    let folder = mounted(&|kind, _| kind == "cgroup2")?;
    let controllers = fs::read_to_string(folder.join("cgroup.controllers")).ok()?;
    controllers.split_whitespace().any(|it| it == "memory").then_some((folder, "memory.max"))
}

impl ControlGroup {
    /// Creates a group whose processes may use this many bytes of memory together.
    pub fn with_memory(bytes: u64) -> Result<Result<Self, Missing>> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let Some((root, file)) = hierarchy() else {
            return Ok(Err(Missing::new(
                "a mounted hierarchy of control groups that limits memory",
            )));
        };
        if file == "memory.max" {
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .context("the controller of memory")?;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let group = Self { folder, file };
        fs::write(group.limit(), bytes.to_string()).context("the limit of memory")?;
        Ok(Ok(group))
    }

    /// Path of the file with the limit.
    pub fn limit(&self) -> PathBuf {
        self.folder.join(self.file)
    }

    /// Makes a command start in the group.
    pub fn place(&self, command: &mut Command) -> Result<()> {
        let processes = File::options().write(true).open(self.folder.join("cgroup.procs"))?;
        // SAFETY: between fork and exec only a system call is made. 0 stands for the process that
        // writes.
        unsafe {
            command.pre_exec(move || Ok(nix::unistd::write(&processes, b"0").map(drop)?));
        }
        Ok(())
    }

    /// Number of processes in the group that the kernel has killed because of the limit.
    pub fn killed(&self) -> Result<u64> {
        let file = if self.file == "memory.max" { "memory.events" } else { "memory.oom_control" };
        let text = fs::read_to_string(self.folder.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(line.context("oom_kill")?.trim().parse()?)
    }

    /// Peak memory use in bytes; `None` if the kernel does not report it.
    pub fn peak(&self) -> Option<u64> {
        let file =
            if self.file == "memory.max" { "memory.peak" } else { "memory.max_usage_in_bytes" };
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        let remove = |folder: &Path| fs::remove_dir(folder).is_ok() || !folder.exists();
        let _ =
            poll::until_true("the control group is empty", PATIENCE, || Ok(remove(&self.folder)));
    }
}
