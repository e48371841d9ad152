//! Resource limits of this process (memory, CPU, threads, descriptors), and the sizes of the
//! daemon's parts.
//!
//! Owns: the tightest limit of each resource, and its division among the parts of the daemon. In:
//! the host's resources, `/proc`, control groups of both versions, and the sizes that the user
//! gives. Out: [`Limits`], read once, and a [`Budget`]. [`budget`] is pure.

mod budget;
mod groups;
mod tight;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::{
        resource::{RLIM_INFINITY, Resource as Rlimit, getrlimit},
        statfs::{FsType, TMPFS_MAGIC, statfs},
        sysinfo::sysinfo,
    },
    unistd::Pid,
};
use serde::{Serialize, Serializer};

use self::groups::Resource;
pub use self::{
    budget::{Budget, Request},
    tight::BudgetError,
};
use crate::kernel::preflight::KernelVersion;

/// Origin of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetBy {
    /// The host's own resources.
    Host,
    /// This file of a control group.
    Group(PathBuf),
}

impl fmt::Display for SetBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Group(file) => write!(f, "{}", file.display()),
        }
    }
}

impl Serialize for SetBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The tightest limit of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Largest amount, in the unit of the resource.
    pub value: u64,
    /// Origin of the limit.
    pub set_by: SetBy,
}

impl Limit {
    fn tighten(&mut self, value: u64, file: PathBuf) {
        if value < self.value {
            *self = Self { value, set_by: SetBy::Group(file) };
        }
    }
}

/// Resource limits of this process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Limit,
    /// CPU time in thousandths of a CPU.
    pub cpu: Limit,
    /// Processes and threads of the control group; `None` for no limit.
    pub threads: Option<Limit>,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub descriptors: u64,
    /// Locked memory in bytes (`RLIMIT_MEMLOCK`). `None` for no limit, and since Linux 5.11, which
    /// no longer charges maps to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locked_memory: Option<u64>,
}

impl Limits {
    /// Reads the limits of this process.
    pub fn read() -> Self {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        let set = groups::folders(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup"))
            .iter()
            .flat_map(groups::Folder::read)
            .collect();
        let descriptors = getrlimit(Rlimit::RLIMIT_NOFILE).map_or(RLIM_INFINITY, |(soft, _)| soft);
        let locked = getrlimit(Rlimit::RLIMIT_MEMLOCK).map_or(RLIM_INFINITY, |(soft, _)| soft);
        let charged = !KernelVersion::running().at_least(5, 11) && locked != RLIM_INFINITY;
        Self {
            descriptors,
            locked_memory: charged.then_some(locked),
            ..Self::of(host_memory(), host_cpus() * 1000, set)
        }
    }

    /// The tightest limits, from the host's resources and those that control groups set.
    fn of(memory: u64, cpu: u64, set: Vec<(Resource, u64, PathBuf)>) -> Self {
        let of_host = |value| Limit { value, set_by: SetBy::Host };
        let (mut memory, mut cpu) = (of_host(memory), of_host(cpu));
        let mut threads = of_host(u64::MAX);
        for (resource, value, file) in set {
            let limit = match resource {
                Resource::Memory => &mut memory,
                Resource::Cpu => &mut cpu,
                Resource::Threads => &mut threads,
            };
            limit.tighten(value, file);
        }
        let threads = Some(threads).filter(|threads| threads.set_by != SetBy::Host);
        Self { memory, cpu, threads, descriptors: u64::MAX, locked_memory: None }
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory, cpu, threads, descriptors, locked_memory } = self;
        write!(f, "memory {} ({}), ", bytes(memory.value), memory.set_by)?;
        write!(f, "CPUs {} ({}), ", cpu.value as f64 / 1000.0, cpu.set_by)?;
        if let Some(threads) = threads {
            write!(f, "threads {} ({}), ", threads.value, threads.set_by)?;
        }
        if let Some(locked) = locked_memory {
            write!(f, "locked memory {}, ", bytes(*locked))?;
        }
        write!(f, "descriptors {descriptors}")
    }
}

/// True if files below this path are in memory. The path need not exist yet.
pub fn is_in_memory(path: &Path) -> bool {
    let found = path.ancestors().find_map(|folder| statfs(folder).ok());
    found.is_some_and(|found| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&found.filesystem_type()))
}

const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// Number of bytes with a binary unit, in the format of the flags.
fn bytes(count: u64) -> impl fmt::Display {
    ByteSize::b(count).display().iec()
}

fn host_memory() -> u64 {
    sysinfo().map_or(u64::MAX, |info| info.ram_total())
}

/// Number of CPUs that this process may run on.
fn host_cpus() -> u64 {
    let allowed = sched_getaffinity(Pid::from_raw(0)).ok().map(|set| {
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).count() as u64
    });
    allowed.filter(|count| *count > 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_is_the_one_that_counts() {
        const GIB: u64 = 1 << 30;
        let set = vec![
            (Resource::Memory, 4 * GIB, "/a/memory.max".into()),
            (Resource::Memory, GIB, "/a/b/memory.high".into()),
            (Resource::Memory, 2 * GIB, "/a/b/memory.max".into()),
            (Resource::Cpu, 500, "/a/cpu.max".into()),
            (Resource::Threads, 100, "/a/pids.max".into()),
        ];
        let limits = Limits::of(8 * GIB, 2000, set);
        assert_eq!(
            limits.memory,
            Limit { value: GIB, set_by: SetBy::Group("/a/b/memory.high".into()) }
        );
        assert_eq!(limits.cpu.value, 500);
        assert_eq!(limits.threads.as_ref().map(|threads| threads.value), Some(100));
        let host =
            Limits::of(8 * GIB, 2000, vec![(Resource::Memory, 9 * GIB, "/a/memory.max".into())]);
        assert_eq!(host.memory, Limit { value: 8 * GIB, set_by: SetBy::Host });
        assert_eq!(host.threads, None);
        assert_eq!(
            Limits { descriptors: 1024, ..limits }.to_string(),
            "memory 1.0 GiB (/a/b/memory.high), CPUs 0.5 (/a/cpu.max), threads 100 (/a/pids.max), descriptors 1024"
        );
    }

    #[test]
    fn this_process_has_limits() {
        let limits = Limits::read();
        assert!(
            limits.memory.value > 0 && limits.cpu.value > 0 && limits.descriptors > 0,
            "{limits}"
        );
    }
}
