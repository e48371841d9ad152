//! The thread that watches namespaces, links and sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
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
    Appeared, Attribute, Interface, InterfaceKey, LinkKind, Mac, Observed, Source, SourceObserver,
    board::Board,
    folders::Folders,
    knowledge::{Knowledge, Sight},
    paths::Paths,
    processes::PROC,
    selection::{self, Candidate, Choice, Reason},
    sources::{Feed, News, Scene, SceneTask, SourceOptions, Sources},
    spaces::{Space, Spaces},
};
use crate::{
    netlink::{Events, NetnsId},
    worker::{Deadline, Worker, WorkerError},
};

/// Where to look.
#[derive(Debug)]
pub struct WatchOptions {
    /// Observe the daemon's own namespace.
    pub host: bool,
    /// Folders of namespace files; [`PROC`] stands for the namespaces of running processes.
    pub netns_dirs: Vec<PathBuf>,
    /// Who is asked about tasks.
    pub sources: SourceOptions,
    /// How long an interface is remembered that has left: records may wait as long for its ENI's id.
    pub linger: Duration,
}

/// The interfaces that are to be observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// Those that are there.
    pub present: Vec<Observed>,
    /// Those that have left, about which more may become known.
    pub departed: Vec<Observed>,
    /// How many links to the ECS agent are left out.
    pub agent_links: usize,
    /// How many others are, but for loopbacks.
    pub left_out: usize,
}

/// News for whoever puts programs on interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tidings {
    /// The interfaces that are to be observed, whenever anything of them has changed.
    Interfaces(Sighting),
    /// Qdiscs or filters are gone from these interfaces, or may be: by inode of the namespace and index.
    HooksGone(BTreeSet<(u64, u32)>),
}

/// The interfaces that are there.
#[derive(Debug, Default)]
struct Look {
    /// Those that are to be observed.
    sights: BTreeMap<InterfaceKey, Sight>,
    /// The others.
    left_out: BTreeMap<InterfaceKey, LeftOut>,
    /// Those that may be ENIs.
    enis: Vec<(InterfaceKey, Mac)>,
}

/// An interface that is not to be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) interface: Interface,
    /// [`None`] for a link to the agent.
    pub(super) reason: Option<Reason>,
}

/// An interface that has been there for so long is no forerunner of others.
const SETTLED: Duration = Duration::from_secs(10);

/// Folders of namespace files are listed this often, beside the notices of inotify.
const SCAN: Duration = Duration::from_secs(1);
/// Processes are listed this often: nothing tells of a process that enters a namespace.
const SCAN_PROCESSES: Duration = Duration::from_secs(5);
/// A namespace file appears empty and becomes a namespace when it is mounted over: the folders are listed this often for
/// so long after a notice, and longer as long as a file is about to become one.
const HURRY: Duration = Duration::from_millis(200);
const HURRY_STEP: Duration = Duration::from_millis(2);

/// Ends the watch when dropped.
#[derive(Debug)]
pub struct WatchHandle {
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    out: Out,
    thread: Option<Worker<()>>,
}

impl WatchHandle {
    /// Ends the watch, and waits for its thread until a deadline.
    pub fn stop(mut self, deadline: &Deadline) -> Result<(), WorkerError> {
        let thread = self.thread.take();
        drop(self);
        thread.map_or(Ok(()), |thread| thread.join(deadline))
    }
}

impl Drop for WatchHandle {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.wake.write(1);
        self.out.close();
    }
}

/// Receiver of the news, until it is closed: also where the thread that watches is stuck.
#[derive(Clone)]
struct Out(Arc<Mutex<Option<Tell>>>);

type Tell = Box<dyn Fn(Tidings) + Send>;

impl fmt::Debug for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Out")
    }
}

impl Out {
    fn send(&self, news: Tidings) {
        if let Some(tell) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            tell(news);
        }
    }

    fn close(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// Closes it when the thread ends, however it ends.
struct Closes(Out);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The state of the watching thread.
#[derive(Debug)]
pub struct Watch {
    host: bool,
    netns_dirs: Vec<PathBuf>,
    linger: Duration,
    spaces: Spaces,
    events: Events,
    /// `None` where inotify is not to be had: then scans do its work.
    folders: Option<Folders>,
    knowledge: Knowledge,
    news: Receiver<(Source, News)>,
    scene: watch::Sender<Arc<Scene>>,
    board: Arc<Board>,
    published: Option<Sighting>,
    _sources: Sources,
}

impl Watch {
    /// Takes a first look, tells `out` what it sees, and goes on watching on a thread of its own.
    pub fn start(
        options: WatchOptions,
        runtime: &Handle,
        observer: &Arc<dyn SourceObserver>,
        board: Arc<Board>,
        out: impl Fn(Tidings) + Send + 'static,
    ) -> io::Result<WatchHandle> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (news_in, news) = channel();
        let (scene, scene_seen) = watch::channel(Arc::default());
        // What a saved answer says is known before anything is seen.
        let saved = options.sources.file.iter().map(|file| (Source::File, file.view().clone()));
        let knowledge = Knowledge::new(options.sources.sources(), saved, Arc::clone(observer));
        let mut watch = Self {
            host: options.host,
            netns_dirs: options.netns_dirs,
            linger: options.linger,
            // Listening before the first look: nothing falls in between.
            events: Events::new()?,
            spaces: Spaces::new()?,
            folders: folders(),
            knowledge,
            news,
            scene,
            board,
            published: None,
            _sources: Sources::start(options.sources, runtime, &scene_seen, |source| {
                Feed::new(source, &news_in, &wake, observer)
            }),
        };
        if watch.host {
            watch.spaces.add_own();
        }
        watch.scan(true);
        let out = Out(Arc::new(Mutex::new(Some(Box::new(out)))));
        watch.publish(&out);

        let stop = Arc::new(AtomicBool::new(false));
        let (stop_seen, wake_seen, closes) = (Arc::clone(&stop), Arc::clone(&wake), Closes(out.clone()));
        let thread = Worker::spawn("watch", move || watch.run(&closes.0, &stop_seen, &wake_seen))?;
        Ok(WatchHandle { stop, wake, out, thread: Some(thread) })
    }

    fn run(mut self, out: &Out, stop: &AtomicBool, wake: &EventFd) {
        let mut next_scan = Instant::now() + SCAN;
        let mut next_processes = Instant::now() + SCAN_PROCESSES;
        let mut hurry_until = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let wait = if now < hurry_until { HURRY_STEP } else { next_scan.saturating_duration_since(now) };
            self.sleep(wake, wait);
            let _ = wake.read();
            self.spaces.told_at(Instant::now());
            catch_up(&mut self.events, &mut self.spaces);
            let mut changed = self.take_news();
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
            changed |= self.spaces.take_changed();
            let hooks = self.spaces.take_hooks();
            if !hooks.is_empty() {
                out.send(Tidings::HooksGone(hooks));
            }
            // What has left is forgotten with time.
            if changed || scan {
                self.publish(out);
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
        // Rounded up, or the last part of a millisecond would be waited for busily.
        let timeout = PollTimeout::try_from(wait.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        let _ = poll(&mut fds, timeout);
    }

    /// Whether what the sources tell makes a difference.
    fn take_news(&mut self) -> bool {
        let mut changed = false;
        while let Ok((source, news)) = self.news.try_recv() {
            changed |= self.knowledge.take(source, news);
        }
        changed
    }

    /// Whether inotify told of files in a folder of namespaces.
    fn take_notices(&mut self) -> bool {
        self.folders.as_mut().is_some_and(Folders::take_notices)
    }

    /// Lists the folders, and processes where asked to; adds what is new. Says whether a namespace is in the making.
    fn scan(&mut self, processes: bool) -> bool {
        let (procs, folders): (Vec<_>, Vec<_>) =
            self.netns_dirs.clone().into_iter().partition(|folder| folder == Path::new(PROC));
        if let Some(watched) = &mut self.folders {
            watched.watch(&folders);
        }
        let Self { spaces, events, .. } = self;
        let folders = folders.iter().map(PathBuf::as_path);
        spaces.scan(folders, processes && !procs.is_empty(), |spaces| catch_up(events, spaces))
    }

    /// Finds the namespaces that sources tell of.
    fn bind(&mut self) {
        let Self { knowledge, spaces, events, .. } = self;
        // An inode that is used again must not be taken for the one that is gone.
        catch_up(events, spaces);
        let tasks = || knowledge.views().values().flat_map(|view| &view.tasks);
        for path in tasks().filter_map(|task| task.netns.as_deref()) {
            spaces.look_at(path);
        }
        spaces.bind(tasks().flat_map(|task| &task.containers));
    }

    fn publish(&mut self, out: &Out) {
        let Look { sights, left_out, enis } = self.look();
        let (present, departed) =
            self.knowledge.identify(sights, |key| left_out.contains_key(key), self.linger);
        self.set_scene(enis);
        let count = |wanted: fn(&LeftOut) -> bool| left_out.values().filter(|it| wanted(it)).count();
        let agent_links = count(|it| it.reason.is_none());
        let others = count(|it| it.reason.is_some_and(|reason| reason != Reason::Loopback));
        let sighting = Sighting { present, departed, agent_links, left_out: others };
        self.board.set(&self.knowledge, left_out);
        if self.published.as_ref() != Some(&sighting) {
            out.send(Tidings::Interfaces(sighting.clone()));
            self.published = Some(sighting);
        }
    }

    fn look(&self) -> Look {
        let mut look = Look::default();
        let leads_to = |space: &Space| -> Vec<Option<NetnsId>> {
            space.links().filter_map(|other| self.spaces.leads_to(other)).collect()
        };
        let paths = Paths::new(self.spaces.all().map(|space| (space.id(), leads_to(space))));
        for space in self.spaces.all() {
            self.look_into(space, &paths, &mut look);
        }
        look
    }

    /// Decides about the interfaces of a namespace.
    fn look_into(&self, space: &Space, paths: &Paths<NetnsId>, look: &mut Look) {
        let interfaces: Vec<(InterfaceKey, Interface, Option<Appeared>)> = space.interfaces().collect();
        let inward = |other| self.spaces.leads_to(other).is_some_and(|to| paths.is_inward(space.id(), to));
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
        let containers = self.spaces.containers(space);
        for ((key, interface, appeared), choice) in interfaces.into_iter().zip(choices) {
            if let Some(mac) = interface.mac
                && choice != Choice::AgentLink
                && interface.kind != LinkKind::Loopback
                && (choice == Choice::Observed || interface.controller.is_none())
            {
                look.enis.push((key, mac));
            }
            let reason = match choice {
                Choice::Observed => {
                    let (containers, name) = (containers.clone(), space.name.clone());
                    look.sights.insert(key, Sight { interface, appeared, containers, name, alone });
                    continue;
                }
                Choice::AgentLink => None,
                Choice::LeftOut(reason) => Some(reason),
            };
            look.left_out.insert(key, LeftOut { interface, reason });
        }
    }

    /// Tells the sources what is to be asked about.
    fn set_scene(&self, mut interfaces: Vec<(InterfaceKey, Mac)>) {
        // The far end of a bridge's container is no ENI.
        let bridged =
            |key: &InterfaceKey| self.knowledge.known().any(|(known, it)| known == key && it.is_bridged());
        interfaces.retain(|(key, _)| !bridged(key));
        let mut tasks = BTreeMap::<Box<str>, SceneTask>::new();
        let mut told = BTreeSet::new();
        for task in self.knowledge.views().values().flat_map(|view| &view.tasks) {
            let endpoint = task.containers.iter().find_map(|container| container.endpoint.clone());
            if endpoint.is_some() && !tasks.contains_key(&task.id) {
                let mut containers: Vec<_> = task.containers.iter().map(|it| it.id.clone()).collect();
                containers.sort();
                told.extend(containers.iter().cloned());
                tasks.insert(task.id.clone(), SceneTask { containers, endpoint });
            }
        }
        let untold = self.spaces.members().filter(|members| {
            members.endpoint.is_some() && members.containers.iter().all(|id| !told.contains(id))
        });
        let mut tasks: Vec<_> = tasks.into_values().collect();
        tasks.extend(untold.map(|members| SceneTask {
            containers: members.containers.clone(),
            endpoint: members.endpoint.clone(),
        }));
        // What others tell from afar does not show that a task is here.
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

/// Applies what the kernel has told until now.
fn catch_up(events: &mut Events, spaces: &mut Spaces) {
    match events.pending() {
        Ok(events) => {
            spaces.events_failing.clear();
            spaces.apply(events);
        }
        Err(error) if spaces.events_failing.is_new(error.kind()) => {
            tracing::warn!(%error, "link events cannot be read; going by scans");
        }
        Err(_) => {}
    }
}
