//! The thread that watches namespaces, links and sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::{runtime::Handle, sync::watch};

use super::{
    Appeared, Attribute, Interface, InterfaceKey, InterfaceSet, LinkKind, Mac, Source,
    SourceObserver, WatchUpdate,
    board::Board,
    folders::Folders,
    knowledge::{Knowledge, SeenInterface},
    namespace::Namespace,
    namespaces::Namespaces,
    paths::Paths,
    processes::PROC,
    selection::{self, Candidate, Choice, Reason},
    snapshot::LeftOut,
    sources::{Feed, Scene, SceneTask, SourceOptions, SourceUpdate, Sources},
    watch_handle::{CloseOnDrop, Output, WatchHandle},
};
use crate::{
    linux::netlink::{Events, NetnsId},
    worker::Worker,
};

/// Settings of the watch.
#[derive(Debug)]
pub struct WatchOptions {
    /// True to observe the daemon's own namespace.
    pub host: bool,
    /// Folders of namespace files; [`PROC`] stands for the namespaces of running processes.
    pub netns_dirs: Vec<PathBuf>,
    /// Sources of task identity.
    pub sources: SourceOptions,
    /// Time to keep the identity of an interface that is gone: its records may still wait for the
    /// ENI id.
    pub linger: Duration,
}

/// The existing interfaces, divided into observed and left out.
#[derive(Debug, Default)]
struct Inventory {
    /// Interfaces to observe.
    seen: BTreeMap<InterfaceKey, SeenInterface>,
    /// All other interfaces.
    left_out: BTreeMap<InterfaceKey, LeftOut>,
    /// Interfaces that may be ENIs.
    enis: Vec<(InterfaceKey, Mac)>,
}

/// Age at which an interface counts as settled: no other is expected to appear in its namespace.
const SETTLED: Duration = Duration::from_secs(10);

/// Interval of listing the folders of namespace files, in addition to inotify.
const SCAN: Duration = Duration::from_secs(1);
/// Interval of listing processes: the kernel sends no event when a process enters a namespace.
const SCAN_PROCESSES: Duration = Duration::from_secs(5);
/// Duration of fast scans after inotify reports a new file. The file is empty at first, and becomes
/// a namespace when it is mounted over. Fast scans go on while a file is still about to become one.
const HURRY: Duration = Duration::from_millis(200);
/// Interval of fast scans.
const HURRY_STEP: Duration = Duration::from_millis(2);

/// The state of the watching thread.
#[derive(Debug)]
pub struct Watch {
    host: bool,
    netns_dirs: Vec<PathBuf>,
    linger: Duration,
    namespaces: Namespaces,
    events: Events,
    /// `None` if inotify is not available: then scans alone find new namespaces.
    folders: Option<Folders>,
    knowledge: Knowledge,
    updates: Receiver<(Source, SourceUpdate)>,
    scene: watch::Sender<Arc<Scene>>,
    board: Arc<Board>,
    published: Option<InterfaceSet>,
    _sources: Sources,
}

impl Watch {
    /// Lists everything once, sends the result to `receive`, and starts the watching thread.
    pub fn start(
        options: WatchOptions,
        runtime: &Handle,
        observer: &Arc<dyn SourceObserver>,
        board: Arc<Board>,
        receive: impl Fn(WatchUpdate) + Send + 'static,
    ) -> io::Result<WatchHandle> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (update_sender, updates) = channel();
        let (scene, scene_seen) = watch::channel(Arc::default());
        // The tasks file is already read, so its view is available to the first listing.
        let saved = options.sources.file.iter().map(|file| (Source::File, file.view().clone()));
        let knowledge = Knowledge::new(options.sources.sources(), saved, Arc::clone(observer));
        let mut watch = Self {
            host: options.host,
            netns_dirs: options.netns_dirs,
            linger: options.linger,
            // Subscribed before the first listing, so that no change is missed.
            events: Events::new()?,
            namespaces: Namespaces::new()?,
            folders: folders(),
            knowledge,
            updates,
            scene,
            board,
            published: None,
            _sources: Sources::start(options.sources, runtime, &scene_seen, |source| {
                Feed::new(source, &update_sender, &wake, observer)
            }),
        };
        if watch.host {
            watch.namespaces.add_own();
        }
        watch.scan(true);
        let output = Output::new(receive);
        watch.publish(&output);

        let stop = Arc::new(AtomicBool::new(false));
        let (stop_seen, wake_seen) = (Arc::clone(&stop), Arc::clone(&wake));
        let closing = CloseOnDrop(output.clone());
        let thread = Worker::spawn("watch", move || watch.run(&closing.0, &stop_seen, &wake_seen))?;
        Ok(WatchHandle::new(stop, wake, output, thread))
    }

    fn run(mut self, output: &Output, stop: &AtomicBool, wake: &EventFd) {
        let mut next_scan = Instant::now() + SCAN;
        let mut next_processes = Instant::now() + SCAN_PROCESSES;
        let mut hurry_until = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = if now < hurry_until {
                HURRY_STEP
            } else {
                next_scan.saturating_duration_since(now)
            };
            self.sleep(wake, wait);
            let _ = wake.read();
            self.namespaces.set_event_time(Instant::now());
            catch_up(&mut self.events, &mut self.namespaces);
            let mut changed = self.take_updates();
            if self.take_notices() {
                hurry_until = Instant::now() + HURRY;
            }
            let now = Instant::now();
            let scan = now >= next_scan;
            if scan || now < hurry_until {
                let processes = now >= next_processes;
                if self.scan(processes) {
                    hurry_until = hurry_until.max(now + HURRY);
                }
                next_scan = now + SCAN;
                if processes {
                    next_processes = now + SCAN_PROCESSES;
                }
            }
            if changed || scan {
                self.bind();
            }
            changed |= self.namespaces.take_changed();
            let hooks = self.namespaces.take_hooks();
            if !hooks.is_empty() {
                output.send(WatchUpdate::HooksGone(hooks));
            }
            // Also at each scan, so that interfaces that are gone are dropped in time.
            if changed || scan {
                self.publish(output);
            }
        }
    }

    fn sleep(&self, wake: &EventFd, wait: Duration) {
        let mut fds = vec![
            PollFd::new(wake.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.events.as_fd(), PollFlags::POLLIN),
        ];
        if let Some(folders) = &self.folders {
            fds.push(PollFd::new(folders.as_fd(), PollFlags::POLLIN));
        }
        // Rounded up: rounded down, the last part of a millisecond would be a busy loop.
        let timeout = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, timeout);
    }

    /// Takes the pending updates of the sources. Returns true if anything changed.
    fn take_updates(&mut self) -> bool {
        let mut changed = false;
        while let Ok((source, update)) = self.updates.try_recv() {
            changed |= self.knowledge.take(source, update);
        }
        changed
    }

    /// True if inotify has reported files in a folder of namespaces.
    fn take_notices(&mut self) -> bool {
        self.folders.as_mut().is_some_and(Folders::take_notices)
    }

    /// Lists the folders and, with `processes`, the processes; adds new namespaces. Returns true if
    /// a file is about to become a namespace.
    fn scan(&mut self, processes: bool) -> bool {
        let (procs, folders): (Vec<_>, Vec<_>) =
            self.netns_dirs.clone().into_iter().partition(|folder| folder == Path::new(PROC));
        if let Some(watched) = &mut self.folders {
            watched.watch(&folders);
        }
        let Self { namespaces, events, .. } = self;
        let folders = folders.iter().map(PathBuf::as_path);
        namespaces.scan(folders, processes && !procs.is_empty(), |namespaces| {
            catch_up(events, namespaces);
        })
    }

    /// Adds the namespaces that sources name, and finds those of their containers.
    fn bind(&mut self) {
        let Self { knowledge, namespaces, events, .. } = self;
        // A reused inode must not be mistaken for the namespace that had it before.
        catch_up(events, namespaces);
        let tasks = || knowledge.views().values().flat_map(|view| &view.tasks);
        for path in tasks().filter_map(|task| task.netns.as_deref()) {
            namespaces.add_path(path);
        }
        namespaces.bind(tasks().flat_map(|task| &task.containers));
    }

    fn publish(&mut self, output: &Output) {
        let Inventory { seen, left_out, enis } = self.inventory();
        let (present, departed) =
            self.knowledge.identify(seen, |key| left_out.contains_key(key), self.linger);
        self.set_scene(enis);
        let count =
            |wanted: fn(&LeftOut) -> bool| left_out.values().filter(|it| wanted(it)).count();
        let agent_links = count(|it| it.reason.is_none());
        let others = count(|it| it.reason.is_some_and(|reason| reason != Reason::Loopback));
        let interfaces = InterfaceSet { present, departed, agent_links, left_out: others };
        self.board.set(&self.knowledge, left_out);
        if self.published.as_ref() != Some(&interfaces) {
            output.send(WatchUpdate::Interfaces(interfaces.clone()));
            self.published = Some(interfaces);
        }
    }

    fn inventory(&self) -> Inventory {
        let mut inventory = Inventory::default();
        let leads_to = |namespace: &Namespace| -> Vec<Option<NetnsId>> {
            namespace.links().filter_map(|other| self.namespaces.leads_to(other)).collect()
        };
        let paths =
            Paths::new(self.namespaces.all().map(|namespace| (namespace.id, leads_to(namespace))));
        for namespace in self.namespaces.all() {
            self.add_namespace(namespace, &paths, &mut inventory);
        }
        inventory
    }

    /// Adds the interfaces of a namespace, observed or left out.
    fn add_namespace(
        &self,
        namespace: &Namespace,
        paths: &Paths<NetnsId>,
        inventory: &mut Inventory,
    ) {
        let interfaces: Vec<(InterfaceKey, Interface, Option<Appeared>)> =
            namespace.interfaces().collect();
        let inward = |other| {
            self.namespaces.leads_to(other).is_some_and(|to| paths.is_inward(namespace.id, to))
        };
        let candidates: Vec<_> = interfaces
            .iter()
            .map(|(key, interface, appeared)| Candidate {
                interface,
                named: self.knowledge.names(*key, interface.mac),
                trunk: self.knowledge.is_trunk(interface.mac),
                inward: interface.other.is_some_and(inward),
                settled: appeared.is_none_or(|appeared| appeared.at.elapsed() >= SETTLED),
            })
            .collect();
        let choices = selection::choose(&candidates);
        drop(candidates);
        let alone = choices.iter().filter(|choice| **choice == Choice::Observed).count() == 1;
        let containers = self.namespaces.containers(namespace);
        for ((key, interface, appeared), choice) in interfaces.into_iter().zip(choices) {
            if let Some(mac) = interface.mac
                && choice != Choice::AgentLink
                && interface.kind != LinkKind::Loopback
                && (choice == Choice::Observed || interface.controller.is_none())
            {
                inventory.enis.push((key, mac));
            }
            let reason = match choice {
                Choice::Observed => {
                    let (containers, name) = (containers.clone(), namespace.name.clone());
                    inventory.seen.insert(
                        key,
                        SeenInterface { interface, appeared, containers, name, alone },
                    );
                    continue;
                }
                Choice::AgentLink => None,
                Choice::LeftOut(reason) => Some(reason),
            };
            inventory.left_out.insert(key, LeftOut { interface, reason });
        }
    }

    /// Publishes the interfaces and tasks to query sources about.
    fn set_scene(&self, mut interfaces: Vec<(InterfaceKey, Mac)>) {
        // The interface of a container on a bridge is not an ENI.
        let bridged = |key: &InterfaceKey| {
            self.knowledge.known().any(|(known, it)| known == key && it.is_bridged())
        };
        interfaces.retain(|(key, _)| !bridged(key));
        let mut tasks = BTreeMap::<Box<str>, SceneTask>::new();
        let mut listed = BTreeSet::new();
        for task in self.knowledge.views().values().flat_map(|view| &view.tasks) {
            let endpoint = task.containers.iter().find_map(|container| container.endpoint.clone());
            if endpoint.is_some() && !tasks.contains_key(&task.id) {
                let mut containers: Vec<_> =
                    task.containers.iter().map(|it| it.id.clone()).collect();
                containers.sort();
                listed.extend(containers.iter().cloned());
                tasks.insert(task.id.clone(), SceneTask { containers, endpoint });
            }
        }
        let unlisted = self.namespaces.members().filter(|members| {
            members.endpoint.is_some() && members.containers.iter().all(|id| !listed.contains(id))
        });
        let mut tasks: Vec<_> = tasks.into_values().collect();
        tasks.extend(unlisted.map(|members| SceneTask {
            containers: members.containers.clone(),
            endpoint: members.endpoint.clone(),
        }));
        // Remote sources also list tasks of other hosts.
        let local = self.knowledge.views().iter().filter(|(source, _)| !source.is_remote());
        let arns: BTreeSet<Box<str>> = local
            .flat_map(|(_, view)| &view.tasks)
            .filter_map(|task| task.get(Attribute::TaskArn).map(Into::into))
            .collect();
        self.scene.send_if_modified(|scene| {
            if scene.interfaces == interfaces && scene.tasks == tasks && scene.arns == arns {
                return false;
            }
            *scene = Arc::new(Scene { changes: scene.changes + 1, interfaces, tasks, arns });
            true
        });
    }
}

fn folders() -> Option<Folders> {
    let warn = |error: &io::Error| {
        tracing::warn!(
            %error,
            "inotify is not available (fs.inotify.max_user_instances): new namespaces are found up to a second later"
        );
    };
    Folders::new().inspect_err(warn).ok()
}

/// Applies all pending kernel events.
fn catch_up(events: &mut Events, namespaces: &mut Namespaces) {
    match events.pending() {
        Ok(events) => {
            namespaces.events_failing.clear();
            namespaces.apply(events);
        }
        Err(error) if namespaces.events_failing.is_new(error.kind()) => {
            tracing::warn!(%error, "link events cannot be read; relying on scans");
        }
        Err(_) => {}
    }
}
