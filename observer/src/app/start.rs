//! Start of the daemon: claims resources of the host, then starts threads.

use std::{
    fs, io,
    net::SocketAddr,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use nix::fcntl::Flock;
use tokio::runtime::Runtime;

use super::{
    changes::{Change, StopOnDrop},
    directories,
    engine::Engine,
    interfaces::{Interfaces, InterfacesOptions},
    options,
    owners::Senders,
    running::{Held, Running},
    runtime::{async_runtime, unwatchable},
    saved::{Found, SavedOptions},
    signals::Signals,
    take_over::TakeOver,
    tick::{Tick, TickOptions},
    watermark::Watermark,
    witness::Witness,
};
use crate::{
    config::Config,
    failure::Failure,
    flow::Room,
    kernel::{Sizes, bpffs::PinDirectory, grace::Grace, preflight},
    limits::{Budget, Limits},
    outputs,
    sink::{Delivery, DeliveryObserver, Leftovers, ObserverRef, SinkObserver, SinkOptions, Sinks},
    tasks::{Board, SourceObserver, Watch, WatchHandle, WatchOptions},
    telemetry::{self, Health, Metrics, Pages, Server},
    worker::Worker,
};

/// Resources that the daemon claims before it loads a program. An error in the configuration,
/// another daemon, or a host that cannot be observed is detected here.
pub(super) struct Prepared<'config> {
    config: &'config Config,
    limits: Limits,
    pub(super) budget: Budget,
    watch: WatchOptions,
    outputs: SinkOptions,
    server: Server,
    runtime: Runtime,
    signals: Signals,
    pub(super) pins: PinDirectory,
    found: Found,
    lock: Flock<fs::File>,
}

impl<'config> Prepared<'config> {
    pub(super) fn new(config: &'config Config) -> Result<Self, Failure> {
        preflight::check()?;
        let (limits, host) = (Limits::read(), &config.settings.host);
        let budget = Budget::of(&limits, options::budget_request(config))?;
        let watch = options::watch_options(config)?;
        let lock = directories::lock(&host.state_dir)?;
        let outputs = outputs::sink_options(&config.output);
        outputs::writable(&config.output.outputs)?;
        let server = listen(host.listen.get())?;
        // Before the pins, so that an early signal does not leave pins behind.
        let runtime = async_runtime()?;
        let signals = Signals::listen(&runtime)
            .map_err(|error| Failure::during("listening to signals", error))?;
        let pins = PinDirectory::create(&config.settings.kernel.bpffs, &host.state_dir)?;
        let found = Found::find(&pins, &host.state_dir);
        Ok(Self {
            config,
            limits,
            budget,
            watch,
            outputs,
            server,
            runtime,
            signals,
            pins,
            found,
            lock,
        })
    }

    /// Starts the threads, the last one first, so that every message has a receiver.
    pub(super) fn start(self, engine: Engine) -> Result<(Running, Held), Failure> {
        let Self { config, limits, budget, runtime, mut outputs, .. } = self;
        let window_seconds = config.settings.records.window;
        let (preferred, sizes) = (engine.preferred(), engine.sizes);
        let stop_timeout = Duration::from_secs(config.settings.host.stop_timeout.into());
        let Served { metrics, health, board } =
            serve(self.server, &engine, &runtime, budget.connections)?;
        let delivery = deliver(config, &metrics, &mut outputs)?;
        outputs.state = Some(config.settings.host.state_dir.clone());
        let Outputs { sinks, watermark, leftovers } =
            start_outputs(config, outputs, &metrics, &self.found)?;
        let Engine { loader, drain, watchlist, hook, xdp, cgroups, .. } = engine;
        let ledgers = drain.ledgers();
        let ((events, messages), (freed, free)) = (channel(), channel());
        let report_senders = cgroups.is_some();
        let (on_stop, found) = (config.settings.kernel.on_stop, self.found);
        let take_over = TakeOver::new(found.left.interfaces.clone(), found.numbers());
        let tick = Tick::new(TickOptions {
            window_seconds,
            max_flows: budget.max_flows,
            room: Room::new(budget.flows_in_memory),
            messages,
            stop_timeout,
            freed,
            drain,
            senders: cgroups.map(|cgroups| Senders::new(cgroups, budget.flows_in_memory)),
            sinks,
            watermark,
            found,
            saved: SavedOptions { limit: budget.flow_memory as usize, on_stop },
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
        })
        .map_err(|error| Failure::during("starting the journal", error))?;
        let (changes_in, changes) = channel();
        let watched = (events.clone(), changes_in.clone());
        let witness = Witness::start(Arc::clone(&ledgers), window_seconds, watched.0, watched.1)
            .map_err(thread_failed)?;
        let source_observer = Arc::clone(&metrics) as Arc<dyn SourceObserver>;
        let interfaces = Interfaces::new(InterfacesOptions {
            loader,
            ledgers,
            at_once: budget.attach_at_once,
            hook,
            xdp,
            report_senders,
            watchlist,
            grace: Grace::new()?,
            witness,
            tick: events.clone(),
            freed: free,
            take_over,
            links: self.pins.links(),
            handle: options::filter_handle(config),
            on_stop,
            metrics,
            health,
            board: Arc::clone(&board),
        })
        .map_err(thread_failed)?;
        let running = Running {
            leftovers,
            tick: worker("tick", move || tick.run())?,
            interfaces: worker("interfaces", move || interfaces.run(&changes))?,
            watch: watch(self.watch, &runtime, &source_observer, board, StopOnDrop(changes_in))?,
            events,
            delivery,
        };
        announce(config, &limits, &budget, preferred, sizes);
        let (signals, pins, lock) = (self.signals, self.pins, self.lock);
        Ok((running, Held { signals, runtime, stop_timeout, pins, on_stop, lock }))
    }
}

/// Starts the watch. It reports to the interfaces thread, which stops after it.
fn watch(
    options: WatchOptions,
    runtime: &Runtime,
    observer: &Arc<dyn SourceObserver>,
    board: Arc<Board>,
    changes: StopOnDrop,
) -> Result<WatchHandle, Failure> {
    let receive = move |update| drop(changes.0.send(Change::Watch(update)));
    Watch::start(options, runtime.handle(), observer, board, receive)
        .map_err(|error| unwatchable(&error))
}

/// State that the HTTP server shows.
struct Served {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
}

/// Starts the HTTP server.
fn serve(
    server: Server,
    engine: &Engine,
    runtime: &Runtime,
    connections: usize,
) -> Result<Served, Failure> {
    let metrics = Metrics::new(engine.preferred(), engine.sizes.flows()).map_err(internal)?;
    metrics.drops().set_visible(engine.drops);
    let (metrics, health, board) = (Arc::new(metrics), Arc::default(), Arc::default());
    let pages = Pages::new(Arc::clone(&metrics), Arc::clone(&health), Arc::clone(&board));
    runtime.spawn(telemetry::serve(server, pages, connections));
    Ok(Served { metrics, health, board })
}

struct Outputs {
    sinks: Sinks,
    watermark: Watermark,
    leftovers: Option<Worker<()>>,
}

/// Starts the sinks, and the recovery of files of an earlier run.
fn start_outputs(
    config: &Config,
    outputs: SinkOptions,
    metrics: &Arc<Metrics>,
    found: &Found,
) -> Result<Outputs, Failure> {
    metrics.outputs(&outputs.outputs);
    let observer = Arc::clone(metrics) as Arc<dyn SinkObserver>;
    let leftovers = outputs.has_files().then(|| {
        let mut leftovers =
            Leftovers::find(&outputs.directory, found.interrupted(&outputs.outputs));
        leftovers.cut();
        (leftovers, outputs.delivery.clone())
    });
    let (sinks, watermark) = Sinks::start(&outputs, Arc::clone(&observer))
        .and_then(|sinks| Ok((sinks, Watermark::start(&config.settings.host.state_dir)?)))
        .map_err(|error| Failure::during("starting the sinks", error))?;
    let leftovers = leftovers.map(|(leftovers, inbox)| {
        let observer = ObserverRef::new(observer);
        worker("leftovers", move || leftovers.recover(&observer, inbox.as_ref()))
    });
    // The delivery ends once all of its inboxes are dropped.
    drop(outputs);
    Ok(Outputs { sinks, watermark, leftovers: leftovers.transpose()? })
}

/// Starts the delivery of finished files, if it is configured.
fn deliver(
    config: &Config,
    metrics: &Arc<Metrics>,
    outputs: &mut SinkOptions,
) -> Result<Option<Delivery>, Failure> {
    let Some(delivery) = &config.delivery else { return Ok(None) };
    let observer = Arc::clone(metrics) as Arc<dyn DeliveryObserver>;
    let (delivery, inbox) = Delivery::start(delivery.delivery(&config.output), observer)
        .map_err(|error| Failure::during("starting the delivery", error))?;
    outputs.delivery = Some(inbox);
    Ok(Some(delivery))
}

fn listen(address: SocketAddr) -> Result<Server, Failure> {
    Server::bind(address).map_err(|error| {
        Failure::usage(format!(
            "cannot listen on {address}: {error}: give another address with --listen"
        ))
    })
}

/// Logs the limits and sizes in effect.
fn announce(config: &Config, limits: &Limits, budget: &Budget, hook: &str, sizes: Sizes) {
    tracing::info!("limits: {limits}; sizes: {budget}");
    for tight in &budget.tight {
        tracing::warn!("{tight}");
    }
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(version, hook, listen = %config.settings.host.listen, flows = sizes.flows(), "observing");
}

fn worker<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Worker<T>, Failure> {
    Worker::spawn(name, work).map_err(thread_failed)
}

fn thread_failed(error: io::Error) -> Failure {
    Failure::during("starting a thread", error)
}

fn internal(error: prometheus::Error) -> Failure {
    Failure::during("registering metrics", error)
}
