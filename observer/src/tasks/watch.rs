//! The thread that watches namespaces, links and sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::Sender,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use inotify::{Inotify, WatchMask};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage, nsid::NsidAttribute};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};

use super::{
    Attribute, Fact, Identity, Interface, InterfaceKey, Observed, Source, TasksFile,
    namespaces::{self, PROC},
    selection,
};
use crate::{
    netlink::{Event, Events, Netlink, NetnsId},
    netns::Netns,
};

/// Where to look.
#[derive(Debug)]
pub struct WatchOptions {
    /// Observe the daemon's own namespace.
    pub host: bool,
    /// Folders of namespace files; [`PROC`] stands for the namespaces of running processes.
    pub netns_dirs: Vec<PathBuf>,
    /// Saved output of `aws ecs describe-tasks`.
    pub tasks_file: Option<TasksFile>,
}

/// Folders of namespace files are listed this often, beside the notices of inotify.
const SCAN: Duration = Duration::from_secs(1);
/// Processes are listed this often: nothing tells of a process that enters a namespace.
const SCAN_PROCESSES: Duration = Duration::from_secs(5);
/// A namespace file appears empty and becomes a namespace a moment later, when it is mounted over.
const HURRY: Duration = Duration::from_millis(200);
const HURRY_STEP: Duration = Duration::from_millis(2);

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct WatchHandle {
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The state of the watching thread.
#[derive(Debug)]
pub struct Watch {
    options: WatchOptions,
    own: Netns,
    netlink: Netlink,
    events: Events,
    inotify: Option<Inotify>,
    watched: BTreeSet<PathBuf>,
    spaces: BTreeMap<u64, Space>,
    births: u64,
    published: Option<Vec<Observed>>,
}

/// A namespace that is known.
#[derive(Debug)]
struct Space {
    netns: Netns,
    /// Its number for ours; `None` is our own.
    id: Option<NetnsId>,
    interfaces: Vec<Interface>,
    /// When each was first seen, by index. An interface that is made anew under the same index, name and address is
    /// another one, and the programs went with the old.
    births: BTreeMap<u32, u64>,
}

impl Watch {
    /// Takes a first look, sends what it sees to `out`, and goes on watching on a thread of its own.
    pub fn start(options: WatchOptions, out: Sender<Vec<Observed>>) -> io::Result<WatchHandle> {
        let mut watch = Self {
            options,
            own: Netns::own()?,
            netlink: Netlink::new()?,
            // Listening before the first look: nothing falls in between.
            events: Events::new()?,
            // Where it is not to be had, the scans do its work.
            inotify: Inotify::init().ok(),
            watched: BTreeSet::new(),
            spaces: BTreeMap::new(),
            births: 0,
            published: None,
        };
        if watch.options.host {
            let own = watch.own.clone();
            watch.add(own, None);
        }
        watch.scan(true);
        watch.publish(&out);

        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (stop_seen, wake_seen) = (Arc::clone(&stop), Arc::clone(&wake));
        let thread = thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch.run(&out, &stop_seen, &wake_seen))?;
        Ok(WatchHandle { stop, wake, thread: Some(thread) })
    }

    fn run(mut self, out: &Sender<Vec<Observed>>, stop: &AtomicBool, wake: &EventFd) {
        let mut next_scan = Instant::now() + SCAN;
        let mut next_processes = Instant::now() + SCAN_PROCESSES;
        let mut hurry_until = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = if now < hurry_until { HURRY_STEP } else { next_scan.saturating_duration_since(now) };
            self.sleep(wake, wait);
            self.take_events();
            if self.take_notices() {
                hurry_until = Instant::now() + HURRY;
            }
            let now = Instant::now();
            if now >= next_scan || now < hurry_until {
                let processes = now >= next_processes;
                self.scan(processes);
                self.refresh_sources();
                next_scan = now + SCAN;
                if processes {
                    next_processes = now + SCAN_PROCESSES;
                }
            }
            self.publish(out);
        }
    }

    fn sleep(&self, wake: &EventFd, wait: Duration) {
        let mut fds = vec![
            PollFd::new(wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(inotify) = &self.inotify {
            fds.push(PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up, or the last part of a millisecond would be waited for busily.
        let timeout = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, timeout);
    }

    /// What the kernel told: the namespaces it concerns are listed anew.
    fn take_events(&mut self) {
        let events = match self.events.pending() {
            Ok(events) => events,
            Err(error) => {
                tracing::warn!(%error, "link events cannot be read; going by scans");
                return;
            }
        };
        let mut changed = BTreeSet::new();
        for event in events {
            match event {
                Event::Overrun => {
                    tracing::warn!("the kernel dropped link events: listing everything again");
                    changed.extend(self.spaces.keys().copied());
                }
                // Other namespaces tell of their own ids too, which say nothing of ours.
                Event::Change(None, message) if matches!(*message, RouteNetlinkMessage::DelNsId(_)) => {
                    if let RouteNetlinkMessage::DelNsId(message) = *message {
                        self.remove_ids(&message.attributes);
                    }
                }
                Event::Change(id, message) => {
                    if let Some(space) = self.spaces.values_mut().find(|space| space.id == id) {
                        if let RouteNetlinkMessage::DelLink(link) = *message
                            // a port that leaves a bridge is told in the same way, for another family
                            && link.header.interface_family == AddressFamily::Unspec
                        {
                            space.births.remove(&link.header.index);
                        }
                        changed.insert(space.netns.inode);
                    }
                }
            }
        }
        for inode in changed {
            self.list(inode);
        }
    }

    /// The namespaces with these ids are gone.
    fn remove_ids(&mut self, attributes: &[NsidAttribute]) {
        for attribute in attributes {
            if let NsidAttribute::Id(id) = attribute {
                self.spaces.retain(|_, space| space.id != Some(*id));
            }
        }
    }

    /// Whether inotify told of files in a folder of namespaces.
    fn take_notices(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let Some(inotify) = &mut self.inotify else { return false };
        inotify.read_events(&mut buffer).is_ok_and(|mut events| events.next().is_some())
    }

    /// Lists the folders, and processes where asked to; adds what is new.
    fn scan(&mut self, processes: bool) {
        let known = self.spaces.values().map(|space| (space.netns.inode, space.netns.path.clone())).collect();
        let mut found = BTreeMap::new();
        for directory in self.options.netns_dirs.clone() {
            if directory == Path::new(PROC) {
                if processes {
                    namespaces::scan(&directory, &known, &mut found);
                }
            } else {
                self.watch_folder(&directory);
                namespaces::scan(&directory, &known, &mut found);
            }
        }
        found.remove(&self.own.inode);
        for (inode, path) in found {
            match self.spaces.get_mut(&inode) {
                // The path of before may lead nowhere by now.
                Some(space) => space.netns.path = path,
                None => self.find(Netns { inode, path }),
            }
        }
    }

    fn watch_folder(&mut self, directory: &Path) {
        if self.watched.contains(directory) {
            return;
        }
        let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
        if let Some(inotify) = &self.inotify
            && inotify.watches().add(directory, mask).is_ok()
        {
            self.watched.insert(directory.to_path_buf());
        }
    }

    /// A namespace that was not known: from now on its events come.
    fn find(&mut self, netns: Netns) {
        // A namespace that ends at this moment is no event.
        let Ok(file) = netns.open() else { return };
        match self.netlink.netns_id(file.as_fd()) {
            Ok(id) => {
                drop(file);
                // An id is unique among live namespaces, so a holder of before is gone.
                self.spaces.retain(|_, space| space.id != Some(id));
                self.add(netns, Some(id));
            }
            Err(error) => {
                tracing::warn!(path = %netns.path.display(), %error, "a network namespace cannot be watched");
            }
        }
    }

    fn add(&mut self, netns: Netns, id: Option<NetnsId>) {
        let inode = netns.inode;
        self.spaces.insert(inode, Space { netns, id, interfaces: Vec::new(), births: BTreeMap::new() });
        self.list(inode);
    }

    /// Lists the interfaces of a namespace; forgets it where the kernel no longer knows it.
    fn list(&mut self, inode: u64) {
        let Some(space) = self.spaces.get_mut(&inode) else { return };
        let listed =
            self.netlink.links(space.id).and_then(|links| Ok((links, self.netlink.addresses(space.id)?)));
        match listed {
            Ok((links, addresses)) => {
                space.interfaces = links
                    .iter()
                    .filter_map(|link| Interface::new(&space.netns, space.id.is_none(), link, &addresses))
                    .collect();
                for interface in &space.interfaces {
                    space.births.entry(interface.ifindex).or_insert_with(|| {
                        self.births += 1;
                        self.births
                    });
                }
            }
            Err(_) if space.id.is_some() => {
                self.spaces.remove(&inode);
            }
            Err(error) => tracing::warn!(%error, "the host's interfaces cannot be listed"),
        }
    }

    fn refresh_sources(&mut self) {
        if let Some(file) = &mut self.options.tasks_file
            && let Err(error) = file.refresh()
        {
            tracing::warn!(%error, "going on with what the tasks file said before");
        }
    }

    fn publish(&mut self, out: &Sender<Vec<Observed>>) {
        let observed: Vec<_> = self.spaces.values().flat_map(|space| self.observed(space)).collect();
        if self.published.as_ref() != Some(&observed) {
            // The receiver being gone means that the daemon is stopping.
            let _ = out.send(observed.clone());
            self.published = Some(observed);
        }
    }

    fn observed<'a>(&'a self, space: &'a Space) -> impl Iterator<Item = Observed> + 'a {
        space.interfaces.iter().filter_map(|interface| {
            let facts = match (&self.options.tasks_file, interface.mac) {
                (Some(file), Some(mac)) => file.facts(mac),
                _ => &[],
            };
            if !selection::is_observed(interface, !facts.is_empty()) {
                return None;
            }
            let host = interface.on_host.then(|| Fact {
                attribute: Attribute::NetworkMode,
                value: "host".into(),
                source: Source::Host,
            });
            let identity = Identity::merge(facts.iter().cloned().chain(host));
            // The path may change with every scan, which is no change of the interface.
            let interface = Interface { netns: space.netns.clone(), ..interface.clone() };
            let key = InterfaceKey {
                netns: space.netns.inode,
                birth: space.births.get(&interface.ifindex).copied().unwrap_or(0),
                ifindex: interface.ifindex,
            };
            Some(Observed { key, interface, identity: Arc::new(identity) })
        })
    }
}
