//! Containers and metadata endpoints of the processes in each network namespace.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::sources::endpoint_id;

/// Folder that stands for the namespaces of running processes in the list of folders to search.
pub const PROC: &str = "/proc";

/// Number of times that a process is examined: a new process still belongs to the container runtime
/// at first.
const EXAMINATIONS: u8 = 3;
/// Largest part of an environment that is read, in bytes.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// Processes in network namespaces other than the daemon's.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: BTreeMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    netns: u64,
    examinations: u8,
    container: Option<Box<str>>,
    endpoint: Option<Box<str>>,
}

/// Containers and endpoint of the processes in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Ids of the containers, sorted.
    pub(super) containers: Vec<Box<str>>,
    /// Task metadata endpoint id of one of the containers.
    pub(super) endpoint: Option<Box<str>>,
}

impl Processes {
    /// Lists the processes, and adds a path for each of their namespaces to `found`, by inode.
    pub(super) fn scan(&mut self, own: u64, found: &mut BTreeMap<u64, PathBuf>) {
        let mut before = std::mem::take(&mut self.known);
        for entry in fs::read_dir(PROC).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let path = entry.path().join("ns/net");
            let Ok(target) = fs::read_link(&path) else { continue };
            let Some(netns) = target.to_str().and_then(inode_of) else { continue };
            found.entry(netns).or_insert(path);
            if netns == own {
                continue;
            }
            let known = before.remove(&pid).filter(|process| process.netns == netns);
            let mut process = known.unwrap_or(Process {
                netns,
                examinations: 0,
                container: None,
                endpoint: None,
            });
            process.examine(pid);
            self.known.insert(pid, process);
        }
    }

    /// The members of each namespace, by inode.
    pub(super) fn members(&self) -> BTreeMap<u64, Members> {
        let mut members = BTreeMap::<u64, Members>::new();
        for process in self.known.values() {
            let members = members.entry(process.netns).or_default();
            members.containers.extend(process.container.clone());
            if members.endpoint.is_none() {
                members.endpoint.clone_from(&process.endpoint);
            }
        }
        for members in members.values_mut() {
            members.containers.sort();
            members.containers.dedup();
        }
        members
    }
}

impl Process {
    fn examine(&mut self, pid: u32) {
        if self.examinations >= EXAMINATIONS {
            return;
        }
        self.examinations += 1;
        let folder = Path::new(PROC).join(pid.to_string());
        if self.container.is_none() {
            self.container = container(&folder);
        }
        if self.endpoint.is_none() {
            self.endpoint = endpoint_in(&folder);
        }
    }
}

/// Id of the container that a process runs in, by its control group.
fn container(folder: &Path) -> Option<Box<str>> {
    groups(folder)?.lines().find_map(container_in)
}

/// True if a process runs in a container, by its control group.
pub(super) fn is_in(pid: u32, container: &str) -> bool {
    groups(&Path::new(PROC).join(pid.to_string()))
        .is_some_and(|text| text.lines().any(|line| line.contains(container)))
}

/// Control groups of a process. Bytes that are not UTF-8 are replaced, which leaves container ids
/// intact.
fn groups(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join("cgroup")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The container id in a control group's path or in a line of `/proc/PID/cgroup`: the last part of
/// the path that consists of 64 hexadecimal digits.
pub fn container_in(line: &str) -> Option<Box<str>> {
    const DIGITS: usize = 64;
    let parts = line.rsplit('/').flat_map(|part| part.split(['-', '.', ':']));
    let is_id = |part: &&str| {
        part.len() == DIGITS
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    parts.into_iter().find(is_id).map(Into::into)
}

/// The metadata endpoint id in a process's environment. No other variable is kept: the environment
/// may hold secrets.
fn endpoint_in(folder: &Path) -> Option<Box<str>> {
    let mut environment = Vec::new();
    let file = File::open(folder.join("environ")).ok()?;
    file.take(MAX_ENVIRONMENT).read_to_end(&mut environment).ok()?;
    environment.split(|byte| *byte == 0).find_map(endpoint_id)
}

/// The inode in the target of a namespace link, such as `net:[4026531840]`.
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::netns::Netns;

    #[test]
    fn the_namespace_of_this_process_is_found() {
        let own = Netns::own().unwrap().inode;
        let mut found = BTreeMap::new();
        Processes::default().scan(own, &mut found);
        assert!(found.contains_key(&own));
    }

    #[test]
    fn only_the_link_of_a_network_namespace_has_an_inode() {
        assert_eq!(inode_of("net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(inode_of("mnt:[4026531840]"), None);
        assert_eq!(inode_of("net:[]"), None);
    }

    #[test]
    fn a_container_is_found_in_the_names_of_all_runtimes() {
        let id = "838a9bd3cb7c8a6d378b41c1b35997a225d28f2a0b84b829af16ef9b27a4ba61";
        for line in [
            format!("9:name=systemd:/docker/{id}"),
            format!("0::/system.slice/docker-{id}.scope"),
            format!("4:memory:/ecs/0123456789abcdef0123456789abcdef/{id}"),
            format!("0::/ecstasks.slice/ecstasks-0123.slice/docker-{id}.scope"),
            format!("0::/../cri-containerd-{id}.scope"),
        ] {
            assert_eq!(container_in(&line).as_deref(), Some(id), "{line}");
        }
        for line in [
            "",
            "0::/",
            "0::/user.slice",
            &format!("0::/{}", &id[1..]),
            &format!("0::/{}", id.to_uppercase()),
        ] {
            assert_eq!(container_in(line), None, "{line}");
        }
    }
}
