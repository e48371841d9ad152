//! What processes tell of the network namespaces that they are in.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use super::sources::endpoint;

/// The folder that stands for the namespaces of running processes.
pub const PROC: &str = "/proc";

/// A process that was just started is still the container runtime's own: it is looked at this often.
const LOOKS: u8 = 3;
/// No more of an environment is read.
const MAX_ENVIRONMENT: u64 = 1 << 20;

/// The processes that are in other network namespaces than ours.
#[derive(Debug, Default)]
pub(super) struct Processes {
    known: BTreeMap<u32, Process>,
}

#[derive(Debug)]
struct Process {
    netns: u64,
    looks: u8,
    container: Option<Box<str>>,
    endpoint: Option<Box<str>>,
}

/// What the processes of a namespace tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Members {
    /// Ids of their containers, sorted.
    pub(super) containers: Vec<Box<str>>,
    /// The id of one of them at the task metadata endpoint.
    pub(super) endpoint: Option<Box<str>>,
}

impl Processes {
    /// Lists the processes; adds their namespaces, by inode, to what was found.
    pub(super) fn scan(&mut self, own: u64, found: &mut BTreeMap<u64, PathBuf>) {
        let mut before = std::mem::take(&mut self.known);
        for entry in fs::read_dir(PROC).into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let path = entry.path().join("ns/net");
            let Ok(target) = fs::read_link(&path) else { continue };
            let Some(netns) = target.to_str().and_then(inode_of) else { continue };
            found.entry(netns).or_insert(path);
            if netns == own {
                continue;
            }
            let known = before.remove(&pid).filter(|process| process.netns == netns);
            let mut process = known.unwrap_or(Process { netns, looks: 0, container: None, endpoint: None });
            process.look(pid);
            self.known.insert(pid, process);
        }
    }

    /// What is told of each namespace.
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
    fn look(&mut self, pid: u32) {
        if self.looks >= LOOKS {
            return;
        }
        self.looks += 1;
        let folder = Path::new(PROC).join(pid.to_string());
        if self.container.is_none() {
            self.container = container(&folder);
        }
        if self.endpoint.is_none() {
            self.endpoint = endpoint_in(&folder);
        }
    }
}

/// The id of the container that a process is in, by its control group.
fn container(folder: &Path) -> Option<Box<str>> {
    groups(folder)?.lines().find_map(container_in)
}

/// Whether a process is in a container.
pub(super) fn is_in(pid: u32, container: &str) -> bool {
    groups(&Path::new(PROC).join(pid.to_string()))
        .is_some_and(|text| text.lines().any(|line| line.contains(container)))
}

/// The control groups of a process. Their names may be any bytes; an id of a container is text.
fn groups(folder: &Path) -> Option<String> {
    let bytes = fs::read(folder.join("cgroup")).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The id of the container that a control group is of: the 64 hexadecimal digits in the last part of its path, or of a
/// line of `/proc/PID/cgroup`, that has as many.
pub fn container_in(line: &str) -> Option<Box<str>> {
    const DIGITS: usize = 64;
    let parts = line.rsplit('/').flat_map(|part| part.split(['-', '.', ':']));
    let is_id = |part: &&str| {
        part.len() == DIGITS
            && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    parts.into_iter().find(is_id).map(Into::into)
}

/// The one variable that matters, out of an environment that may hold secrets.
fn endpoint_in(folder: &Path) -> Option<Box<str>> {
    let mut environment = Vec::new();
    let file = File::open(folder.join("environ")).ok()?;
    file.take(MAX_ENVIRONMENT).read_to_end(&mut environment).ok()?;
    environment.split(|byte| *byte == 0).find_map(endpoint)
}

/// The inode in `net:[4026531840]`.
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::Netns;

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
