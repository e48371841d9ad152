//! The thread that watches namespaces, links and sources.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use inotify::{Inotify, WatchMask};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::{EfdFlags, EventFd},
};
use tokio::{runtime::Handle, sync::watch};

use super::{
    Attribute, InterfaceKey, LinkKind, Mac, Observed, Source, SourceObserver,
    board::Board,
    knowledge::{Knowledge, Sight},
    processes::PROC,
    selection::{self, Choice},
    sources::{Feed, News, Scene, SceneTask, SourceOptions, Sources},
    spaces::Spaces,
};
use crate::{
    netlink::Events,
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
}

/// The interfaces that are there.
#[derive(Debug, Default)]
struct Look {
    /// Those that are to be observed.
    sights: BTreeMap<InterfaceKey, Sight>,
    /// The others.
    left_out: BTreeSet<InterfaceKey>,
    /// Those that may be ENIs.
    enis: Vec<(InterfaceKey, Mac)>,
    /// How many are links to the agent.
    agent_links: usize,
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

/// Where sightings go, until it is closed: also where the thread that watches is stuck.
#[derive(Clone, Debug)]
struct Out(Arc<Mutex<Option<Sender<Sighting>>>>);

impl Out {
    fn send(&self, sighting: Sighting) {
        if let Some(out) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // The receiver being gone means that the daemon is stopping.
            let _ = out.send(sighting);
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
    inotify: Option<Inotify>,
    watched: BTreeSet<PathBuf>,
    knowledge: Knowledge,
    news: Receiver<(Source, News)>,
    scene: watch::Sender<Arc<Scene>>,
    board: Arc<Board>,
    published: Option<Sighting>,
    _sources: Sources,
}

impl Watch {
    /// Takes a first look, sends what it sees to `out`, and goes on watching on a thread of its own.
    pub fn start(
        options: WatchOptions,
        runtime: &Handle,
        observer: &Arc<dyn SourceObserver>,
        board: Arc<Board>,
        out: Sender<Sighting>,
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
            // Where it is not to be had, the scans do its work.
            inotify: Inotify::init().ok(),
            watched: BTreeSet::new(),
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
        let out = Out(Arc::new(Mutex::new(Some(out))));
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
                self.scan(processes);
                next_scan = now + SCAN;
                if processes {
                    next_processes = now + SCAN_PROCESSES;
                }
            }
            if changed || scan {
                self.bind();
            }
            changed |= self.spaces.take_changed();
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
        if let Some(inotify) = &self.inotify {
            fds.push(PollFd::new(inotify.as_fd(), PollFlags::POLLIN));
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
        let mut buffer = [0; 4096];
        let Some(inotify) = &mut self.inotify else { return false };
        inotify.read_events(&mut buffer).is_ok_and(|mut events| events.next().is_some())
    }

    /// Lists the folders, and processes where asked to; adds what is new.
    fn scan(&mut self, processes: bool) {
        let (procs, folders): (Vec<_>, Vec<_>) =
            self.netns_dirs.clone().into_iter().partition(|folder| folder == Path::new(PROC));
        for folder in &folders {
            self.watch_folder(folder);
        }
        let Self { spaces, events, .. } = self;
        let folders = folders.iter().map(PathBuf::as_path);
        spaces.scan(folders, processes && !procs.is_empty(), |spaces| catch_up(events, spaces));
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
        let Look { sights, left_out, enis, agent_links } = self.look();
        let (present, departed) = self.knowledge.identify(sights, &left_out, self.linger);
        self.set_scene(enis);
        let sighting = Sighting { present, departed, agent_links };
        self.board.set(&self.knowledge);
        if self.published.as_ref() != Some(&sighting) {
            out.send(sighting.clone());
            self.published = Some(sighting);
        }
    }

    fn look(&self) -> Look {
        let mut look = Look::default();
        for space in self.spaces.all() {
            let containers = self.spaces.containers(space);
            let mut chosen = Vec::new();
            for (key, interface, appeared) in space.interfaces() {
                let named = self.knowledge.names(key, interface.mac);
                let choice = selection::choose(&interface, named, self.knowledge.is_trunk(interface.mac));
                look.agent_links += usize::from(choice == Choice::AgentLink);
                if let Some(mac) = interface.mac
                    && choice != Choice::AgentLink
                    && interface.kind != LinkKind::Loopback
                    && !interface.enslaved
                {
                    look.enis.push((key, mac));
                }
                if choice == Choice::Observed {
                    chosen.push((key, interface, appeared));
                } else {
                    look.left_out.insert(key);
                }
            }
            let alone = chosen.len() == 1;
            look.sights.extend(chosen.into_iter().map(|(key, interface, appeared)| {
                let name = space.name.clone();
                (key, Sight { interface, appeared, containers: containers.clone(), name, alone })
            }));
        }
        look
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
