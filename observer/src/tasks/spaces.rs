//! The network namespaces that are known, and the interfaces in them, as the kernel lists them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Appeared, Interface, InterfaceKey, LinkKind, OtherDevice,
    processes::{self, Members, PROC, Processes},
    resolve::NetnsName,
    view::ContainerView,
};
use crate::{
    log::Logged,
    netlink::{Address, Change, Event, Link, LinkCounters, Netlink, NetnsId},
    netns::Netns,
};

/// What is known of namespaces.
#[derive(Debug)]
pub(super) struct Spaces {
    own: Netns,
    /// Our own namespace's number for itself. It has none until the kernel is first asked about a link into it; from
    /// then on events and links name it by that.
    own_id: Option<NetnsId>,
    netlink: Netlink,
    known: BTreeMap<u64, Space>,
    births: u64,
    /// Namespaces that are older than this process and not known yet, by inode. The kernel tells when one ends.
    older: BTreeMap<u64, NetnsId>,
    /// When what is taken now was told.
    told: Instant,
    processes: Processes,
    /// What processes tell of namespaces, by inode.
    members: BTreeMap<u64, Members>,
    /// Containers that were found in a namespace, and which it is, by birth.
    bound: BTreeMap<Box<str>, u64>,
    /// Inodes of namespaces that the log says cannot be watched.
    unwatched: BTreeSet<u64>,
    /// Why link events cannot be read.
    pub(super) events_failing: Logged<io::ErrorKind>,
    changed: bool,
    /// Interfaces from which a qdisc or a filter is gone, by namespace and index.
    hooks: BTreeSet<(u64, u32)>,
}

/// A namespace that is known.
#[derive(Debug)]
pub(super) struct Space {
    netns: Netns,
    /// Its number for ours; `None` is our own.
    id: Option<NetnsId>,
    /// Inodes are used again; this is not.
    birth: u64,
    /// What its file is called, if that says whose it is.
    pub(super) name: Option<NetnsName>,
    interfaces: Vec<Interface>,
    /// When each was first seen, by index. An interface that is made anew under the same index, name and address is
    /// another one, and the programs went with the old.
    births: BTreeMap<u32, Birth>,
    /// Whether it is older than this process.
    older: bool,
    listed: bool,
    /// The last attempt to list it failed: what is known may be out of date.
    stale: bool,
}

/// When an interface was first seen.
#[derive(Clone, Copy, Debug)]
struct Birth {
    number: u64,
    appeared: Option<Appeared>,
}

impl Space {
    /// Its number for our own namespace; `None` is our own.
    pub(super) const fn id(&self) -> Option<NetnsId> {
        self.id
    }

    /// The devices that its interfaces lead to.
    pub(super) fn links(&self) -> impl Iterator<Item = OtherDevice> {
        self.interfaces.iter().filter_map(|interface| interface.other)
    }

    /// Its interfaces. The path of the namespace may change with every scan, which is no change of an interface.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = (InterfaceKey, Interface, Option<Appeared>)> {
        self.interfaces.iter().filter_map(|interface| {
            let ifindex = interface.ifindex;
            let birth = self.births.get(&ifindex)?;
            let key = InterfaceKey { netns: self.netns.inode, birth: birth.number, ifindex };
            Some((key, Interface { netns: self.netns.clone(), ..interface.clone() }, birth.appeared))
        })
    }

    /// The beginning of an interface that is seen for the first time.
    fn appearance(&self, told: Instant, kind: LinkKind, carried: LinkCounters) -> Option<Appeared> {
        let carried = match (self.older, self.listed) {
            // It was there before us.
            (true, false) => return None,
            // Pairs and VLAN devices are made for their task, and so is the namespace.
            (false, _) if kind != LinkKind::Physical => LinkCounters::default(),
            _ => carried,
        };
        Some(Appeared { at: told, carried })
    }
}

impl Spaces {
    /// None yet.
    pub(super) fn new() -> io::Result<Self> {
        let (own, mut netlink) = (Netns::own()?, Netlink::new()?);
        let older = Netns::all()
            .into_iter()
            .filter(|netns| netns.inode != own.inode)
            .filter_map(|netns| Some((netns.inode, netlink.netns_id(netns.open().ok()?.as_fd()).ok()?)))
            .collect();
        Ok(Self {
            own,
            own_id: None,
            netlink,
            known: BTreeMap::new(),
            births: 0,
            older,
            told: Instant::now(),
            processes: Processes::default(),
            members: BTreeMap::new(),
            bound: BTreeMap::new(),
            unwatched: BTreeSet::new(),
            events_failing: Logged::default(),
            changed: false,
            hooks: BTreeSet::new(),
        })
    }

    /// Those that are known.
    pub(super) fn all(&self) -> impl Iterator<Item = &Space> {
        self.known.values()
    }

    /// Ids of the containers in a namespace, sorted.
    pub(super) fn containers(&self, space: &Space) -> Vec<Box<str>> {
        let bound = self.bound.iter().filter(|(_, birth)| **birth == space.birth).map(|(id, _)| id);
        let members = self.members.get(&space.netns.inode).into_iter().flat_map(|it| &it.containers);
        bound.chain(members).cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// What processes tell of namespaces.
    pub(super) fn members(&self) -> impl Iterator<Item = &Members> {
        self.members.iter().filter(|(inode, _)| self.known.contains_key(inode)).map(|(_, members)| members)
    }

    /// Whether anything is different since this was last asked.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The daemon's own namespace is one of them.
    pub(super) fn add_own(&mut self) {
        let own = self.own.clone();
        self.add(own, None);
    }

    /// What is taken from now on was told at this time.
    pub(super) fn told_at(&mut self, time: Instant) {
        self.told = time;
    }

    /// Interfaces from which a qdisc or a filter is gone since this was last asked, or may be.
    pub(super) fn take_hooks(&mut self) -> BTreeSet<(u64, u32)> {
        std::mem::take(&mut self.hooks)
    }

    /// The namespace with this number; `None` is our own.
    fn known_as(&self, id: NetnsId) -> Option<NetnsId> {
        Some(id).filter(|id| Some(*id) != self.own_id)
    }

    /// The other namespace that a device lies in; the inner `None` is our own.
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

    /// What the kernel told: the namespaces it concerns are listed anew.
    pub(super) fn apply(&mut self, events: Vec<Event>) {
        let mut changed = BTreeSet::new();
        let ids: BTreeSet<_> = self.known.values().map(|space| space.id).collect();
        for event in events {
            let Event::Change(id, change) = event else {
                tracing::warn!("the kernel dropped link events: listing everything again");
                changed.extend(self.known.keys().copied());
                let all = self.known.values().flat_map(Space::interfaces);
                self.hooks.extend(all.map(|(key, ..)| (key.netns, key.ifindex)));
                continue;
            };
            if id.is_some() && !ids.contains(&id) {
                self.learn_own_id();
            }
            let id = id.and_then(|id| self.known_as(id));
            // Other namespaces tell of their own ids too, which say nothing of ours.
            if let (None, Change::NetnsGone(gone)) = (id, &change) {
                self.remove_id(*gone);
                continue;
            }
            let Some(space) = self.known.values_mut().find(|space| space.id == id) else { continue };
            match change {
                Change::NetnsGone(_) => continue,
                Change::HooksGone(ifindex) => {
                    self.hooks.insert((space.netns.inode, ifindex));
                    continue;
                }
                Change::LinkGone(link) => drop(space.births.remove(&link.index)),
                Change::Interfaces => {}
            }
            changed.insert(space.netns.inode);
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

    /// The namespace with this id is gone.
    fn remove_id(&mut self, id: NetnsId) {
        self.older.retain(|_, older| *older != id);
        self.remove(|space| space.id == Some(id));
    }

    fn remove(&mut self, gone: impl Fn(&Space) -> bool) {
        let Self { known, bound, members, changed, .. } = self;
        known.retain(|inode, space| {
            let stays = !gone(space);
            if !stays {
                bound.retain(|_, birth| *birth != space.birth);
                members.remove(inode);
                *changed = true;
            }
            stays
        });
    }

    /// Adds what is new in folders of namespace files and, where asked to, the namespaces of processes and what these
    /// tell. What was told before is applied in between by `catch_up`: an inode that is used again must not be taken for
    /// the one that is gone. Says whether a namespace is in the making.
    pub(super) fn scan<'a>(
        &mut self,
        folders: impl Iterator<Item = &'a Path>,
        processes: bool,
        catch_up: impl FnOnce(&mut Self),
    ) -> bool {
        let known = self.known.values().map(|space| (space.netns.inode, space.netns.path.clone())).collect();
        let mut found = BTreeMap::new();
        let mut in_the_making = false;
        for folder in folders {
            in_the_making |= super::namespaces::scan(folder, &known, &mut found);
        }
        if processes {
            self.processes.scan(self.own.inode, &mut found);
        }
        catch_up(self);
        let stale: Vec<_> =
            self.known.iter().filter(|(_, space)| space.stale).map(|(inode, _)| *inode).collect();
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
                Some(space) => {
                    space.name = name.or(space.name.take());
                    // The path of before may lead nowhere by now.
                    space.netns.path = path;
                }
                None => self.find(Netns { inode, path }, name),
            }
        }
    }

    /// Finds the namespaces of containers; says whether one of them could not be found yet.
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
            let birth = self.namespace_of(container);
            missing |= birth.is_none();
            if let Some(birth) = birth {
                self.bound.insert(id.into(), birth);
                self.changed = true;
            }
        }
        missing
    }

    /// The birth of a running container's namespace; 0 for our own.
    fn namespace_of(&mut self, container: &ContainerView) -> Option<u64> {
        let by_file = || container.netns.as_deref().and_then(|path| Netns::at(path).ok().flatten());
        let by_process = || {
            let pid = container.pid?;
            let netns = Netns::at(&Path::new(PROC).join(pid.to_string()).join("ns/net")).ok()??;
            // Process ids are used again, and may be those of another process namespace.
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
        self.known.get(&inode).map(|space| space.birth)
    }

    /// Adds the namespace that a file leads to, if it is a new one.
    pub(super) fn look_at(&mut self, path: &Path) {
        if let Ok(Some(netns)) = Netns::at(path)
            && netns.inode != self.own.inode
            && !self.known.contains_key(&netns.inode)
        {
            self.find(netns, None);
        }
    }

    /// A namespace that was not known: from now on its events come.
    fn find(&mut self, netns: Netns, name: Option<NetnsName>) {
        // A namespace that ends at this moment is no event.
        let Ok(file) = netns.open() else { return };
        match self.netlink.netns_id(file.as_fd()) {
            Ok(id) => {
                drop(file);
                // An id is unique among live namespaces, so a holder of before is gone.
                self.remove(|space| space.id == Some(id));
                let inode = netns.inode;
                // What was told of the inode may be about another namespace that had it.
                self.members.remove(&inode);
                self.add(netns, Some(id));
                if let Some(space) = self.known.get_mut(&inode) {
                    space.name = name;
                }
            }
            // It is found again at each scan.
            Err(error) if self.unwatched.insert(netns.inode) => {
                tracing::warn!(path = %netns.path.display(), %error, "a network namespace cannot be watched");
            }
            Err(_) => {}
        }
    }

    fn add(&mut self, netns: Netns, id: Option<NetnsId>) {
        let inode = netns.inode;
        self.births += 1;
        let space = Space {
            netns,
            id,
            birth: self.births,
            name: None,
            interfaces: Vec::new(),
            births: BTreeMap::new(),
            // As is our own.
            older: id.is_none() || self.older.remove(&inode) == id,
            listed: false,
            stale: false,
        };
        self.known.insert(inode, space);
        self.changed = true;
        self.list(inode);
    }

    /// Lists the interfaces of a namespace; forgets it where the kernel no longer knows it. Where they cannot be listed
    /// for another reason, what is known of them holds until they can.
    fn list(&mut self, inode: u64) {
        let Some(space) = self.known.get_mut(&inode) else { return };
        let listed =
            self.netlink.links(space.id).and_then(|links| Ok((links, self.netlink.addresses(space.id)?)));
        match listed {
            Ok((links, addresses)) => {
                space.take_links(&links, &addresses, self.told, &mut self.births);
                self.changed = true;
                if links.iter().any(|link| link.other_netns.is_some()) {
                    self.learn_own_id();
                }
            }
            // The kernel's answer for a number that no namespace has.
            Err(error) if space.id.is_some() && error.raw_os_error() == Some(libc::EINVAL) => {
                let birth = space.birth;
                self.remove(|space| space.birth == birth);
            }
            Err(error) => {
                if !std::mem::replace(&mut space.stale, true) {
                    let path = space.netns.path.display();
                    tracing::warn!(%path, %error, "the interfaces of a namespace cannot be listed; trying again");
                }
            }
        }
    }
}

impl Space {
    fn take_links(&mut self, links: &[Link], addresses: &[Address], told: Instant, births: &mut u64) {
        let before: BTreeMap<_, _> =
            self.interfaces.drain(..).map(|interface| (interface.ifindex, interface.mac)).collect();
        for link in links {
            let interface = Interface::new(&self.netns, self.id.is_none(), link, addresses);
            let carried = link.counters.unwrap_or_default();
            // With another address it is another ENI: what it carries now is not the other's. Whoever makes a pair for a
            // container may give it its address a moment later, when it has carried nothing.
            let is_other = before.get(&interface.ifindex).is_some_and(|mac| *mac != interface.mac)
                && carried != LinkCounters::default();
            if is_other || !self.births.contains_key(&interface.ifindex) {
                *births += 1;
                let appeared = if is_other {
                    Some(Appeared { at: told, carried })
                } else {
                    self.appearance(told, interface.kind, carried)
                };
                self.births.insert(interface.ifindex, Birth { number: *births, appeared });
            }
            self.interfaces.push(interface);
        }
        (self.listed, self.stale) = (true, false);
    }
}
