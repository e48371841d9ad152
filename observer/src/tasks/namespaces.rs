//! All network namespaces that the daemon has found, kept up to date by kernel events and scans.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    OtherDevice,
    namespace::Namespace,
    netns_files,
    processes::{self, Members, PROC, Processes},
    resolve::NetnsName,
    view::ContainerView,
};
use crate::{
    linux::{
        netlink::{Change, Event, Netlink, NetnsId},
        netns::Netns,
    },
    log::Logged,
};

/// The network namespaces of this host, by inode.
#[derive(Debug)]
pub(super) struct Namespaces {
    own: Netns,
    /// Number of the daemon's own namespace as seen from itself. The kernel assigns it when it
    /// first describes a link into this namespace; from then on events and links use it.
    own_id: Option<NetnsId>,
    netlink: Netlink,
    known: BTreeMap<u64, Namespace>,
    /// Number of namespaces and interfaces seen so far.
    births: u64,
    /// Namespaces that are older than this process and not added yet, by inode. Kernel events
    /// remove those that end.
    older: BTreeMap<u64, NetnsId>,
    /// Time of the events that are being applied.
    event_time: Instant,
    processes: Processes,
    /// Containers and endpoints of the processes in a namespace, by inode.
    members: BTreeMap<u64, Members>,
    /// Birth of the namespace of each container that was found, by container id.
    bound: BTreeMap<Box<str>, u64>,
    /// Inodes of namespaces that cannot be watched and were logged.
    unwatched: BTreeSet<u64>,
    /// The last logged error of reading link events.
    pub(super) events_failing: Logged<io::ErrorKind>,
    changed: bool,
    /// Interfaces that lost a qdisc or a filter: inode of the namespace and index.
    hooks: BTreeSet<(u64, u32)>,
}

impl Namespaces {
    /// An empty collection. Notes the namespaces that exist already.
    pub(super) fn new() -> io::Result<Self> {
        let (own, mut netlink) = (Netns::own()?, Netlink::new()?);
        let older = Netns::all()
            .into_iter()
            .filter(|netns| netns.inode != own.inode)
            .filter_map(|netns| {
                Some((netns.inode, netlink.netns_id(netns.open().ok()?.as_fd()).ok()?))
            })
            .collect();
        Ok(Self {
            own,
            own_id: None,
            netlink,
            known: BTreeMap::new(),
            births: 0,
            older,
            event_time: Instant::now(),
            processes: Processes::default(),
            members: BTreeMap::new(),
            bound: BTreeMap::new(),
            unwatched: BTreeSet::new(),
            events_failing: Logged::default(),
            changed: false,
            hooks: BTreeSet::new(),
        })
    }

    /// All namespaces.
    pub(super) fn all(&self) -> impl Iterator<Item = &Namespace> {
        self.known.values()
    }

    /// Ids of the containers in a namespace, sorted.
    pub(super) fn containers(&self, namespace: &Namespace) -> Vec<Box<str>> {
        let bound =
            self.bound.iter().filter(|(_, birth)| **birth == namespace.birth).map(|(id, _)| id);
        let members =
            self.members.get(&namespace.netns.inode).into_iter().flat_map(|it| &it.containers);
        bound.chain(members).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Containers and endpoints found by processes, for each namespace.
    pub(super) fn members(&self) -> impl Iterator<Item = &Members> {
        self.members
            .iter()
            .filter(|(inode, _)| self.known.contains_key(inode))
            .map(|(_, members)| members)
    }

    /// True if anything has changed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Adds the daemon's own namespace.
    pub(super) fn add_own(&mut self) {
        let own = self.own.clone();
        self.add(own, None);
    }

    /// Sets the time of the events that are applied from now on.
    pub(super) fn set_event_time(&mut self, time: Instant) {
        self.event_time = time;
    }

    /// Interfaces that have lost, or may have lost, a qdisc or a filter since the last call.
    pub(super) fn take_hooks(&mut self) -> BTreeSet<(u64, u32)> {
        std::mem::take(&mut self.hooks)
    }

    /// The number without the alias for the daemon's own namespace, which becomes `None`.
    fn known_as(&self, id: NetnsId) -> Option<NetnsId> {
        Some(id).filter(|id| Some(*id) != self.own_id)
    }

    /// The other namespace that a device lies in; the inner `None` is the daemon's own.
    #[expect(
        clippy::option_option,
        reason = "a device without another namespace, and a namespace without a number"
    )]
    pub(super) fn leads_to(&self, device: OtherDevice) -> Option<Option<NetnsId>> {
        match device {
            OtherDevice::Here(_) => None,
            OtherDevice::In(id) => Some(self.known_as(id)),
        }
    }

    /// Applies kernel events: lists the interfaces of every namespace that they concern.
    pub(super) fn apply(&mut self, events: Vec<Event>) {
        let mut changed = BTreeSet::new();
        let ids: BTreeSet<_> = self.known.values().map(|namespace| namespace.id).collect();
        for event in events {
            let Event::Change(id, change) = event else {
                tracing::warn!("the kernel dropped link events: listing everything again");
                changed.extend(self.known.keys().copied());
                let all = self.known.values().flat_map(Namespace::interfaces);
                self.hooks.extend(all.map(|(key, ..)| (key.netns, key.ifindex)));
                continue;
            };
            if id.is_some() && !ids.contains(&id) {
                self.learn_own_id();
            }
            let id = id.and_then(|id| self.known_as(id));
            // Other namespaces report their own numbers, too; only the daemon's own numbers are
            // used here.
            if let (None, Change::NetnsGone(gone)) = (id, &change) {
                self.remove_id(*gone);
                continue;
            }
            let Some(namespace) = self.known.values_mut().find(|namespace| namespace.id == id)
            else {
                continue;
            };
            match change {
                Change::NetnsGone(_) => continue,
                Change::HooksGone(ifindex) => {
                    self.hooks.insert((namespace.netns.inode, ifindex));
                    continue;
                }
                Change::LinkGone(link) => namespace.forget(link.index),
                Change::Interfaces => {}
            }
            changed.insert(namespace.netns.inode);
        }
        for inode in changed {
            self.list(inode);
        }
    }

    fn learn_own_id(&mut self) {
        if self.own_id.is_none() {
            let Self { own, netlink, own_id, .. } = self;
            let found = own.open().and_then(|file| netlink.netns_id_if_any(file.as_fd()));
            *own_id = found.ok().flatten();
        }
    }

    /// Removes the namespace with this number.
    fn remove_id(&mut self, id: NetnsId) {
        self.older.retain(|_, older| *older != id);
        self.remove(|namespace| namespace.id == Some(id));
    }

    fn remove(&mut self, gone: impl Fn(&Namespace) -> bool) {
        let Self { known, bound, members, changed, .. } = self;
        known.retain(|inode, namespace| {
            let stays = !gone(namespace);
            if !stays {
                bound.retain(|_, birth| *birth != namespace.birth);
                members.remove(inode);
                *changed = true;
            }
            stays
        });
    }

    /// Adds new namespaces from folders of namespace files and, with `processes`, those of running
    /// processes. Calls `catch_up` after listing, which must apply pending events, so that a reused
    /// inode is not mistaken for the namespace that had it before. Returns true if a file is about
    /// to become a namespace.
    pub(super) fn scan<'a>(
        &mut self,
        folders: impl Iterator<Item = &'a Path>,
        processes: bool,
        catch_up: impl FnOnce(&mut Self),
    ) -> bool {
        let known = self
            .known
            .values()
            .map(|namespace| (namespace.netns.inode, namespace.netns.path.clone()))
            .collect();
        let mut found = BTreeMap::new();
        let mut in_the_making = false;
        for folder in folders {
            in_the_making |= netns_files::scan(folder, &known, &mut found);
        }
        if processes {
            self.processes.scan(self.own.inode, &mut found);
        }
        catch_up(self);
        let stale: Vec<_> = self
            .known
            .iter()
            .filter(|(_, namespace)| namespace.stale)
            .map(|(inode, _)| *inode)
            .collect();
        for inode in stale {
            self.list(inode);
        }
        self.take_found(found);
        if processes {
            let members = self.processes.members();
            self.changed |= members != self.members;
            self.members = members;
        }
        in_the_making
    }

    fn take_found(&mut self, mut found: BTreeMap<u64, PathBuf>) {
        found.remove(&self.own.inode);
        for (inode, path) in found {
            let name = path.file_name().and_then(|name| NetnsName::parse(name.to_str()?));
            match self.known.get_mut(&inode) {
                Some(namespace) => {
                    namespace.name = name.or(namespace.name.take());
                    // The old path may be gone by now.
                    namespace.netns.path = path;
                }
                None => self.find(Netns { inode, path }, name),
            }
        }
    }

    /// Finds the namespaces of running containers. Returns true if some were not found.
    pub(super) fn bind<'a>(&mut self, containers: impl Iterator<Item = &'a ContainerView>) -> bool {
        let running: BTreeMap<&str, &ContainerView> = containers
            .filter(|container| container.pid.is_some() || container.netns.is_some())
            .map(|container| (&*container.id, container))
            .collect();
        let before = self.bound.len();
        self.bound.retain(|id, _| running.contains_key(&**id));
        self.changed |= self.bound.len() != before;
        let mut missing = false;
        for (id, container) in running {
            if self.bound.contains_key(id) {
                continue;
            }
            let birth = self.namespaceof(container);
            missing |= birth.is_none();
            if let Some(birth) = birth {
                self.bound.insert(id.into(), birth);
                self.changed = true;
            }
        }
        missing
    }

    /// The birth of a running container's namespace; 0 for the daemon's own.
    fn namespaceof(&mut self, container: &ContainerView) -> Option<u64> {
        let by_file = || container.netns.as_deref().and_then(|path| Netns::at(path).ok().flatten());
        let by_process = || {
            let pid = container.pid?;
            let netns = Netns::at(&Path::new(PROC).join(pid.to_string()).join("ns/net")).ok()??;
            // The kernel reuses process ids, and the id may belong to another process namespace.
            processes::is_in(pid, &container.id).then_some(netns)
        };
        let netns = by_file().or_else(by_process)?;
        if netns.inode == self.own.inode {
            return Some(0);
        }
        let inode = netns.inode;
        if !self.known.contains_key(&inode) {
            self.find(netns, None);
        }
        self.known.get(&inode).map(|namespace| namespace.birth)
    }

    /// Adds the namespace at a path, if it is a new one.
    pub(super) fn add_path(&mut self, path: &Path) {
        if let Ok(Some(netns)) = Netns::at(path)
            && netns.inode != self.own.inode
            && !self.known.contains_key(&netns.inode)
        {
            self.find(netns, None);
        }
    }

    /// Adds a namespace, and subscribes to its events.
    fn find(&mut self, netns: Netns, name: Option<NetnsName>) {
        // An error here means that the namespace has just ended.
        let Ok(file) = netns.open() else { return };
        match self.netlink.netns_id(file.as_fd()) {
            Ok(id) => {
                drop(file);
                // Numbers are unique among live namespaces, so an earlier holder of this one is
                // gone.
                self.remove(|namespace| namespace.id == Some(id));
                let inode = netns.inode;
                // Members that were found for this inode may belong to another namespace that had
                // it before.
                self.members.remove(&inode);
                self.add(netns, Some(id));
                if let Some(namespace) = self.known.get_mut(&inode) {
                    namespace.name = name;
                }
            }
            // Every scan finds it again, so the error is logged once.
            Err(error) if self.unwatched.insert(netns.inode) => {
                tracing::warn!(path = %netns.path.display(), %error, "a network namespace cannot be watched");
            }
            Err(_) => {}
        }
    }

    fn add(&mut self, netns: Netns, id: Option<NetnsId>) {
        let inode = netns.inode;
        self.births += 1;
        // The daemon's own namespace is older than the daemon.
        let older = id.is_none() || self.older.remove(&inode) == id;
        let namespace = Namespace::new(netns, id, self.births, older);
        self.known.insert(inode, namespace);
        self.changed = true;
        self.list(inode);
    }

    /// Lists the interfaces of a namespace, and removes the namespace if the kernel no longer has
    /// it. On any other error the last listing stays in force until a later attempt succeeds.
    fn list(&mut self, inode: u64) {
        let Some(namespace) = self.known.get_mut(&inode) else { return };
        let listed = self
            .netlink
            .links(namespace.id)
            .and_then(|links| Ok((links, self.netlink.addresses(namespace.id)?)));
        match listed {
            Ok((links, addresses)) => {
                namespace.take_links(&links, &addresses, self.event_time, &mut self.births);
                self.changed = true;
                if links.iter().any(|link| link.other_netns.is_some()) {
                    self.learn_own_id();
                }
            }
            // The kernel returns EINVAL for a number that no namespace has.
            Err(error) if namespace.id.is_some() && error.raw_os_error() == Some(libc::EINVAL) => {
                let birth = namespace.birth;
                self.remove(|namespace| namespace.birth == birth);
            }
            Err(error) => {
                if !std::mem::replace(&mut namespace.stale, true) {
                    let path = namespace.netns.path.display();
                    tracing::warn!(%path, %error, "the interfaces of a namespace cannot be listed; trying again");
                }
            }
        }
    }
}
