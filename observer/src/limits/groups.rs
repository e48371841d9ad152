//! Limits of control groups of both versions. Only [`Folder::read`] does I/O.

use std::{fs, path::PathBuf};

/// Resource that a control group can limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    /// Memory in bytes.
    Memory,
    /// CPU time in thousandths of a CPU.
    Cpu,
    /// Number of processes and threads.
    Threads,
}

/// Folder of a control group: one that this process is in, or a parent.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Controllers of the hierarchy in version 1; empty for version 2.
    controllers: Vec<String>,
}

/// Mount of a control group hierarchy.
struct Mount<'a> {
    /// Path of the group at the mount point.
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
    /// Mount options, which contain the controllers in version 1.
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// Parses a line such as `32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu`.
    fn parse(line: &'a str) -> Option<Self> {
        let (place, source) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, point) = (place.next()?, place.next()?);
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1)?);
        Some(Self { root, point: unescaped(point).into(), kind, options })
    }

    fn is_of(&self, controllers: &[String]) -> bool {
        match controllers {
            [] => self.kind == "cgroup2",
            _ => {
                self.kind == "cgroup"
                    && controllers
                        .iter()
                        .all(|name| self.options.split(',').any(|option| option == name))
            }
        }
    }

    /// Path of a group relative to the mount point. Empty if the group is not below the mount's
    /// root, as in a container whose own group is at the mount point.
    fn relative<'b>(&self, group: &'b str) -> &'b str {
        let root = self.root.trim_end_matches('/');
        match group.strip_prefix(root) {
            Some(below)
                if (below.is_empty() || below.starts_with('/')) && !below.contains("/..") =>
            {
                below.trim_matches('/')
            }
            _ => "",
        }
    }
}

/// Decodes the escapes of `mountinfo`, which writes a space as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")
}

/// Folders whose limits apply to a process: its own groups and their parents, up to the mount
/// points. `mounts` is the text of `/proc/self/mountinfo`, `membership` that of
/// `/proc/self/cgroup`.
pub(super) fn folders(mounts: &str, membership: &str) -> Vec<Folder> {
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
    let mut folders = Vec::new();
    for line in membership.lines() {
        // 4:memory:/docker/0123…, 0::/system.slice/observer.service
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let controllers: Vec<String> =
            controllers.split(',').filter(|name| !name.is_empty()).map(Into::into).collect();
        let of_it = mounts.iter().filter(|mount| mount.is_of(&controllers));
        // Of several mounts, the one with the longest path to the group shows the most parents.
        let Some(mount) = of_it.max_by_key(|mount| mount.relative(group).len()) else { continue };
        let mut path = mount.point.clone();
        path.extend(mount.relative(group).split('/').filter(|part| !part.is_empty()));
        loop {
            folders.push(Folder { path: path.clone(), controllers: controllers.clone() });
            if path == mount.point || !path.pop() {
                break;
            }
        }
    }
    folders
}

impl Folder {
    /// Reads the limits of this group, each with its file.
    pub(super) fn read(&self) -> Vec<(Resource, u64, PathBuf)> {
        let text = |name: &str| fs::read_to_string(self.path.join(name)).unwrap_or_default();
        let mut limits = Vec::new();
        let mut limit = |resource, name: &str, value: Option<u64>| {
            limits.extend(value.map(|value| (resource, value, self.path.join(name))));
        };
        let has = |name: &str| self.controllers.iter().any(|controller| controller == name);
        if self.controllers.is_empty() {
            for name in ["memory.max", "memory.high"] {
                limit(Resource::Memory, name, amount(&text(name)));
            }
            limit(Resource::Cpu, "cpu.max", cpu_max(&text("cpu.max")));
            limit(Resource::Threads, "pids.max", amount(&text("pids.max")));
        }
        if has("memory") {
            let name = "memory.limit_in_bytes";
            limit(Resource::Memory, name, amount(&text(name)));
            // The tightest limit of all parents, including those above the mount point.
            let tightest = hierarchical(&text("memory.stat"));
            limit(Resource::Memory, "memory.stat", tightest);
        }
        if has("cpu") {
            let name = "cpu.cfs_quota_us";
            limit(Resource::Cpu, name, thousandths(&text(name), &text("cpu.cfs_period_us")));
        }
        if has("pids") {
            limit(Resource::Threads, "pids.max", amount(&text("pids.max")));
        }
        limits
    }
}

/// Parses a limit; `None` for no limit: `max`, or the largest number of version 1.
fn amount(text: &str) -> Option<u64> {
    const MANY: u64 = 1 << 62;
    text.trim().parse().ok().filter(|amount| *amount < MANY)
}

fn hierarchical(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| amount(line.strip_prefix("hierarchical_memory_limit ")?))
}

/// Parses `cpu.max`, such as `50000 100000` or `max 100000`.
fn cpu_max(text: &str) -> Option<u64> {
    let (quota, period) = text.trim().split_once(' ')?;
    thousandths(quota, period)
}

/// Quota in thousandths of a CPU; `None` for no limit: `max` or -1.
fn thousandths(quota: &str, period: &str) -> Option<u64> {
    let (quota, period): (u64, u64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    quota.saturating_mul(1000).checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(mounts: &str, membership: &str) -> Vec<String> {
        folders(mounts, membership).iter().map(|folder| folder.path.display().to_string()).collect()
    }

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
    const V2: &str =
        "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_group_and_all_above_it_are_found_in_both_versions() {
        assert_eq!(
            paths(V1, "5:memory:/ecs/task/c1\n4:cpuacct,cpu:/ecs\n9:name=systemd:/x\n0::/"),
            [
                "/sys/fs/cgroup/memory/ecs/task/c1",
                "/sys/fs/cgroup/memory/ecs/task",
                "/sys/fs/cgroup/memory/ecs",
                "/sys/fs/cgroup/memory",
                "/sys/fs/cgroup/cpu,cpuacct/ecs",
                "/sys/fs/cgroup/cpu,cpuacct",
                "/sys/fs/cgroup/systemd/x",
                "/sys/fs/cgroup/systemd",
            ]
        );
        assert_eq!(
            paths(V2, "0::/system.slice/observer.service"),
            [
                "/sys/fs/cgroup/system.slice/observer.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup"
            ]
        );
    }

    #[test]
    fn a_container_finds_its_own_group_at_the_mount_point() {
        // Version 2 with a namespace of its own.
        assert_eq!(paths(V2, "0::/"), ["/sys/fs/cgroup"]);
        // The group lies outside of the namespace.
        assert_eq!(paths(V2, "0::/../other"), ["/sys/fs/cgroup"]);
        // Version 1 without one: the mount shows the group alone, and the membership the whole
        // path.
        let mount = "35 31 0:32 /docker/c1 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory";
        assert_eq!(paths(mount, "5:memory:/docker/c1"), ["/sys/fs/cgroup/memory"]);
        assert_eq!(
            paths(mount, "5:memory:/docker/c1/inner"),
            ["/sys/fs/cgroup/memory/inner", "/sys/fs/cgroup/memory"]
        );
        assert_eq!(paths(mount, "5:memory:/docker/c10"), ["/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn a_mount_point_may_have_a_space() {
        let mount = r"29 23 0:26 / /mnt/a\040b rw - cgroup2 cgroup2 rw";
        assert_eq!(paths(mount, "0::/"), ["/mnt/a b"]);
    }

    #[test]
    fn no_limit_is_no_number() {
        assert_eq!(amount("134217728\n"), Some(128 << 20));
        assert_eq!(amount("max\n"), None);
        assert_eq!(amount("9223372036854771712\n"), None);
        assert_eq!(amount(""), None);
        assert_eq!(cpu_max("50000 100000\n"), Some(500));
        assert_eq!(cpu_max("max 100000\n"), None);
        assert_eq!(thousandths("-1\n", "100000\n"), None);
        assert_eq!(thousandths("150000\n", "100000\n"), Some(1500));
        assert_eq!(thousandths("1", "0"), None);
        assert_eq!(hierarchical("cache 0\nhierarchical_memory_limit 4096\n"), Some(4096));
    }

    #[test]
    fn the_limits_of_a_folder_are_those_of_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        for (name, text) in [
            ("memory.max", "1000\n"),
            ("memory.high", "900\n"),
            ("cpu.max", "20000 100000\n"),
            ("pids.max", "max\n"),
            ("memory.limit_in_bytes", "800\n"),
            ("memory.stat", "hierarchical_memory_limit 700\n"),
        ] {
            write(name, text);
        }
        let read = |controllers: &[&str]| {
            let controllers = controllers.iter().map(ToString::to_string).collect();
            let limits = Folder { path: directory.path().into(), controllers }.read();
            limits.into_iter().map(|(resource, value, _)| (resource, value)).collect::<Vec<_>>()
        };
        assert_eq!(
            read(&[]),
            [(Resource::Memory, 1000), (Resource::Memory, 900), (Resource::Cpu, 200)]
        );
        assert_eq!(read(&["memory"]), [(Resource::Memory, 800), (Resource::Memory, 700)]);
        assert_eq!(read(&["cpu", "cpuacct"]), []);
    }
}
