//! The daemon: all rooms wired together.
//!
//! Owns: the order of starting and stopping, and the threads.
//!
//! ```text
//! watch ──observed interfaces──▶ interfaces ──register, retire──▶ tick ──batches──▶ sinks
//!  (tasks)                        (attach, detach)                 (drain, windows)
//!                                   ▲ programs that are gone           ▲
//!                                 witness ──what hooks did not see─────┘
//! ```
//!
//! Stopping runs down the same way: each thread ends when the one before it has, so nothing that was counted is
//! left behind. None is waited for beyond its part of `--stop-timeout` ([`running`]).

mod check;
mod interfaces;
mod leaving;
mod mending;
mod owners;
mod plan;
mod running;
mod signals;
mod tasks;
mod tick;
mod watermark;
mod witness;

use std::{
    fs,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg};
use observer_ebpf::abi::Clock;
use tokio::runtime::Runtime;

pub use self::{check::check, tasks::show_tasks};
use self::{
    interfaces::Interfaces,
    owners::Senders,
    running::Running,
    signals::Signals,
    tick::{Tick, TickOptions},
    watermark::Watermark,
    witness::Witness,
};
use crate::{
    cgroup::Cgroups,
    cli::{AttachName, DropsName, HookName, LogLevel, XdpChanges, XdpModeName},
    config::{Config, ConfigError},
    flow::Room,
    kernel::{
        Drain, Hook, KernelError, Loader, Missing, Sizes, XdpMode, XdpPlan, XdpWish,
        bpffs::PinDirectory,
        diagnostics,
        drops::{self, Drops, Sight, Watchlist},
        grace::Grace,
        object::LoaderOptions,
        preflight,
    },
    limits::{Budget, BudgetError, Limits, Wanted, is_in_memory},
    schema::SchemaError,
    sink::{Delivery, DeliveryObserver, Leftovers, ObserverRef, SinkObserver, SinkOptions, Sinks},
    tasks::{
        ApiOptions, Board, InterfaceKey, SourceObserver, SourceOptions, TasksFile, TasksFileError, Tidings,
        Watch, WatchOptions,
    },
    telemetry::{self, Health, Metrics, Pages, Server},
    worker::Worker,
};

/// News for the thread that puts programs on interfaces.
#[derive(Debug)]
enum Change {
    /// The watch tells of interfaces.
    Watch(Tidings),
    /// Programs are gone from an interface.
    Removed(InterfaceKey, Missing),
    /// An interface carries frames that its programs do not see.
    Suspected(InterfaceKey),
    /// The daemon ends.
    Stop,
}

/// Has the thread that puts programs on interfaces end when this is dropped: others can send it news as long as it runs.
struct StopOnDrop(Sender<Change>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let _ = self.0.send(Change::Stop);
    }
}

/// Why the daemon ended, or did not start. Each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Wrong usage or configuration: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The host cannot run it: exit code 3.
    #[error("{0}")]
    Host(String),
    /// It failed while running: exit code 1.
    #[error("{0}")]
    Running(String),
}

impl Failure {
    /// The exit code.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Running(_) => 1,
            Self::Usage(_) => 2,
            Self::Host(_) => 3,
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TasksFileError> for Failure {
    fn from(error: TasksFileError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<preflight::Unfit> for Failure {
    fn from(error: preflight::Unfit) -> Self {
        Self::Host(error.to_string())
    }
}

impl From<BudgetError> for Failure {
    fn from(error: BudgetError) -> Self {
        match error {
            BudgetError::FlowMemory { .. } => Self::Usage(error.to_string()),
            BudgetError::Memory { .. } | BudgetError::LockedMemory { .. } => Self::Host(error.to_string()),
        }
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        match error {
            KernelError::Memory { .. } | KernelError::PinsTaken(_) => Self::Usage(error.to_string()),
            _ => Self::Host(error.to_string()),
        }
    }
}

fn listen(address: SocketAddr) -> Result<Server, Failure> {
    Server::bind(address).map_err(|error| {
        Failure::Usage(format!("cannot listen on {address}: {error}: give another address with --listen"))
    })
}

/// Runs until a signal says to stop.
pub fn run(config: &Config) -> Result<(), Failure> {
    preflight::check()?;
    let limits = Limits::read();
    let budget = Budget::of(&limits, wanted(config))?;
    let watch_options = watch_options(config)?;
    let lock = lock(&config.state_dir)?;
    let mut outputs = sink_options(config);
    writable_outputs(config)?;
    let server = listen(config.listen)?;

    // Before anything is touched: a signal that comes early must not leave it behind.
    let runtime = async_runtime()?;
    let signals = listen_to_signals(&runtime)?;
    let pins = PinDirectory::create(&config.bpffs, &config.state_dir)?;
    let sizes = Sizes::from_budget(budget.flow_memory, preflight::possible_cpus())?;
    let options = LoaderOptions { sizes, log_level: programs_level(config.log_level), clock: Clock::Ticks };
    let mut loader = Loader::new(options, pins.path())?;
    if config.drops == DropsName::Auto {
        loader.make_room_for_drops();
    }
    // Loaded for no interface: it makes the maps, and shows that this kernel's verifier takes the programs.
    let mut first = loader.load(1, true)?;
    let mut drain = Drain::new(&mut first, sizes, Grace::new()?)?;
    let (drops, watchlist) = watch_drops(config.drops, &mut loader).unzip();
    let (hook, xdp) = (hook(config), xdp_wish(config));
    if xdp.is_some() {
        drop(loader.load_xdp(1, XdpPlan { mode: XdpMode::Generic, companion: true })?);
    }
    // A host without control groups of version 2 has tasks of `host` mode without names.
    let cgroups = Cgroups::find().ok().filter(|_| loader.load_shared(1, true, None).is_ok());
    let flows_in_memory = budget.flows_in_memory;
    let (tell_senders, senders) =
        (cgroups.is_some(), cgroups.map(|cgroups| Senders::new(cgroups, flows_in_memory)));
    let preferred = if xdp.is_some() { "xdp" } else { hook.as_str() };
    let metrics = Arc::new(Metrics::new(preferred, sizes.flows()).map_err(|error| internal(&error))?);
    let (health, board) = (Arc::<Health>::default(), Arc::<Board>::default());
    metrics.drops().set_visible(drops.as_ref().map(Drops::sight));
    if let Some(drops) = drops {
        drain.see_drops(drops);
    }

    if options.log_level != 0 {
        diagnostics::start(&mut first)?;
    }
    drop(first);
    let pages = Pages::new(Arc::clone(&metrics), Arc::clone(&health), Arc::clone(&board));
    runtime.spawn(telemetry::serve(server, pages, budget.connections));

    metrics.outputs(&outputs.outputs);
    let told = Arc::clone(&metrics) as Arc<dyn SinkObserver>;
    let delivery = deliver(config, &metrics, &mut outputs)?;
    let leftovers =
        outputs.has_files().then(|| (Leftovers::find(&outputs.directory), outputs.delivery.clone()));
    let sinks = start_sinks(config, &outputs, &told)?;
    // The delivery ends when nobody is left who could tell of a file.
    drop(outputs);
    let ledgers = drain.ledgers();
    let ((events, tick_events), (freed, free)) = (channel(), channel());
    let tick = Tick::new(
        TickOptions {
            window_seconds: config.window,
            max_flows: budget.max_flows,
            room: Room::new(flows_in_memory),
            messages: tick_events,
            stop_timeout: config.stop_timeout,
            freed,
        },
        drain,
        senders,
        sinks,
        Arc::clone(&metrics),
        Arc::clone(&health),
    );
    let source_observer = Arc::clone(&metrics) as Arc<dyn SourceObserver>;
    let (changes_in, changes) = channel();
    let witness = Witness::start(Arc::clone(&ledgers), config.window, events.clone(), changes_in.clone())
        .map_err(|error| thread_failed(&error))?;
    let interfaces = Interfaces::new(
        (loader, ledgers, budget.attach_at_once),
        (hook, xdp, tell_senders),
        watchlist,
        (Grace::new()?, witness),
        (events.clone(), free),
        (metrics, health, Arc::clone(&board)),
    )
    .map_err(|error| thread_failed(&error))?;
    let stop = StopOnDrop(changes_in);
    let tell = move |tidings| drop(stop.0.send(Change::Watch(tidings)));
    let recover = leftovers.map(|(leftovers, inbox)| {
        let told = ObserverRef::new(told);
        Worker::spawn("leftovers", move || leftovers.recover(&told, inbox.as_ref()))
    });
    let running = Running {
        leftovers: recover.transpose().map_err(|error| thread_failed(&error))?,
        tick: Worker::spawn("tick", move || tick.run()).map_err(|error| thread_failed(&error))?,
        interfaces: Worker::spawn("interfaces", move || interfaces.run(&changes))
            .map_err(|error| thread_failed(&error))?,
        watch: Watch::start(watch_options, runtime.handle(), &source_observer, board, tell)
            .map_err(|error| unwatchable(&error))?,
        events,
        delivery,
    };
    announce(config, &limits, &budget, preferred, sizes);
    let result = running.until_stopped(signals, &runtime, config.stop_timeout);
    runtime.shutdown_background();
    drop(pins);
    drop(lock);
    result
}

fn start_sinks(
    config: &Config,
    outputs: &SinkOptions,
    told: &Arc<dyn SinkObserver>,
) -> Result<(Sinks, Watermark), Failure> {
    Sinks::start(outputs, Arc::clone(told))
        .and_then(|sinks| Ok((sinks, Watermark::start(&config.state_dir)?)))
        .map_err(|error| Failure::Running(format!("starting the sinks: {error}")))
}

fn listen_to_signals(runtime: &Runtime) -> Result<Signals, Failure> {
    Signals::listen(runtime).map_err(|error| Failure::Running(format!("listening to signals: {error}")))
}

/// Logs the limits and the sizes that hold.
fn announce(config: &Config, limits: &Limits, budget: &Budget, hook: &str, sizes: Sizes) {
    tracing::info!("limits: {limits}; sizes: {budget}");
    for tight in &budget.tight {
        tracing::warn!("{tight}");
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, hook, listen = %config.listen, flows = sizes.flows(), "observing");
}

fn thread_failed(error: &io::Error) -> Failure {
    Failure::Running(format!("starting a thread: {error}"))
}

/// Prints what a command was asked for. A reader that has seen enough is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Running(format!("writing to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

fn wanted(config: &Config) -> Wanted<'_> {
    Wanted {
        flow_memory: config.flow_memory.map(|size| size.as_u64()),
        max_flows: config.max_flows,
        outputs: &config.output.outputs,
        cpus: preflight::possible_cpus(),
        files_in_memory: Some(&*config.output.directory)
            .filter(|directory| config.output.has_files() && is_in_memory(directory)),
    }
}

/// Starts the delivery of finished files, where they are to be delivered.
fn deliver(
    config: &Config,
    metrics: &Arc<Metrics>,
    outputs: &mut SinkOptions,
) -> Result<Option<Delivery>, Failure> {
    let Some(delivery) = &config.delivery else { return Ok(None) };
    let observer = Arc::clone(metrics) as Arc<dyn DeliveryObserver>;
    let (delivery, inbox) = Delivery::start(delivery.delivery(&config.output), observer)
        .map_err(|error| Failure::Running(format!("starting the delivery: {error}")))?;
    outputs.delivery = Some(inbox);
    Ok(Some(delivery))
}

fn async_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        // Names are resolved and files are read on these. A control group may have few threads.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(|error| Failure::Running(format!("starting the async runtime: {error}")))
}

/// Where drops cannot be seen, or should not be, the daemon does without.
fn watch_drops(wanted: DropsName, loader: &mut Loader) -> Option<(Drops, Watchlist)> {
    if wanted == DropsName::Off {
        return None;
    }
    match drops::watch(loader) {
        Ok((drops, watchlist)) => {
            if drops.sight() == Sight::Counts {
                tracing::warn!("{}", drops.sight());
            }
            Some((drops, watchlist))
        }
        Err(error) => {
            tracing::warn!(%error, "drops cannot be seen here, and none becomes REJECT (--drops off says so too)");
            None
        }
    }
}

fn unwatchable(error: &io::Error) -> Failure {
    Failure::Host(format!("watching network namespaces: {error}: needs CAP_NET_BROADCAST and CAP_SYS_ADMIN"))
}

fn watch_options(config: &Config) -> Result<WatchOptions, Failure> {
    Ok(WatchOptions {
        host: config.host,
        netns_dirs: if config.netns { config.netns_dirs.clone() } else { Vec::new() },
        sources: SourceOptions {
            docker: config.docker_socket.clone(),
            agent: config.agent_data.clone(),
            introspection: config.introspection_url.clone(),
            tmds: config.tmds_url.clone(),
            imds: config.imds_url.clone(),
            api: config.api.clone().map(|endpoint| ApiOptions { endpoint, trust: config.trust.clone() }),
            file: config.tasks_file.as_deref().map(TasksFile::open).transpose()?,
        },
        // A record waits for one window, and the window that it is of may just have begun.
        linger: Duration::from_secs(2 * u64::from(config.window)),
    })
}

/// One daemon per state directory.
fn lock(state_dir: &Path) -> Result<Flock<fs::File>, Failure> {
    let failed = |error: io::Error| {
        Failure::Usage(format!(
            "state directory {}: {error}: give one that can be written with --state-dir",
            state_dir.display()
        ))
    };
    fs::create_dir_all(state_dir).map_err(failed)?;
    let file = fs::File::create(state_dir.join("lock")).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Failure::Usage(format!(
            "another observer runs with the state directory {}: stop it, or give another with --state-dir",
            state_dir.display()
        )),
        errno => failed(errno.into()),
    })
}

/// Makes sure that files can be made in the output directory, if any are asked for.
pub(crate) fn writable_outputs(config: &Config) -> Result<(), Failure> {
    if config.output.has_files() { writable(&config.output.directory) } else { Ok(()) }
}

fn writable(directory: &Path) -> Result<(), Failure> {
    let probe = directory.join(format!(".probe-{}", std::process::id()));
    let attempt = || -> io::Result<()> {
        fs::create_dir_all(directory)?;
        fs::File::create(&probe)?.write_all(b"observer")?;
        fs::remove_file(&probe)
    };
    attempt().map_err(|error| {
        Failure::Usage(format!(
            "output directory {}: {error}: give one that can be written with --output-dir",
            directory.display()
        ))
    })
}

fn hook(config: &Config) -> Hook {
    // Two daemons on one host must not take each other's filters for their own.
    let handle = short_hash(&config.state_dir.to_string_lossy()) as u16 | 1;
    match config.attach {
        AttachName::Auto => Hook::best(handle),
        AttachName::Tcx => Hook::Tcx,
        AttachName::Clsact => Hook::Clsact { handle },
    }
}

fn xdp_wish(config: &Config) -> Option<XdpWish> {
    let mode = match config.xdp_mode {
        XdpModeName::Auto => None,
        XdpModeName::Native => Some(XdpMode::Native),
        XdpModeName::Generic => Some(XdpMode::Generic),
    };
    let wish = XdpWish { mode, accept_changes: config.xdp_changes == XdpChanges::Accept };
    (config.hook == HookName::Xdp).then_some(wish)
}

/// What the sinks that a configuration asks for are made of.
pub(crate) fn sink_options(config: &Config) -> SinkOptions {
    config.output.sink_options(flow_log_id)
}

/// An id in the shape of a flow log's, the same for all files of one host.
fn flow_log_id() -> String {
    let host = fs::read_to_string("/etc/machine-id")
        .or_else(|_| fs::read_to_string("/proc/sys/kernel/hostname"))
        .unwrap_or_default();
    let hash = short_hash(host.trim());
    format!("fl-{:017x}", u128::from(hash) & ((1 << 68) - 1))
}

/// FNV-1a: the same in every run and version.
fn short_hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn programs_level(level: LogLevel) -> u8 {
    match level {
        LogLevel::Debug | LogLevel::Trace => diagnostics::DEBUG,
        LogLevel::Error | LogLevel::Warn | LogLevel::Info => 0,
    }
}

fn internal(error: &prometheus::Error) -> Failure {
    Failure::Running(format!("registering metrics: {error}"))
}
