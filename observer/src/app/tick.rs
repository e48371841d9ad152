//! The thread that drains the kernel each second and closes windows on their edges. Nothing can block it.

use std::{
    collections::BTreeSet,
    hash::BuildHasher,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use observer_ebpf::abi::{Direction, Ledger, Loss};

use super::{
    held::Held,
    owners::Senders,
    shares::{Growth, Shares},
    watermark::Watermark,
};
use crate::{
    accounts::{
        Frames, Uncounted, UncountedLosses,
        unseen::{Claim, may_precede_hook},
    },
    clock,
    flow::{Added, Delta, InterfaceNumber, Room, Table, Window},
    kernel::{
        Drain, IngressHook, KernelError,
        drain::Side,
        drops::Dropped,
        ledger::{grown, lost, sum},
        object::MAX_INTERFACES,
    },
    record::{Batch, Lost, Subject},
    sink::{Sinks, SinksError},
    tasks::{InterfaceKey, Observed},
    telemetry::{Health, InterfaceStats, Metrics, Protocol},
    worker::Deadline,
};

/// What the tick is told.
#[derive(Debug)]
pub(super) enum Event {
    /// Packets will be counted under this number.
    Register(InterfaceNumber, InterfaceKey, Named),
    /// From now on all packets are, those towards the task by this hook; this passed each way before.
    Attached(InterfaceNumber, IngressHook, [Loss; 2]),
    /// Somebody has removed its programs: packets pass uncounted.
    Removed(InterfaceNumber),
    /// They are back, those towards the task counted by this hook; this passed each way meanwhile.
    Restored(InterfaceNumber, IngressHook, [Loss; 2]),
    /// What it has carried by its own counters since it was attached, and what of that no hook saw, as far as that is
    /// certain and new.
    Carried {
        /// Its number.
        number: InterfaceNumber,
        /// The interface that had this number then.
        key: InterfaceKey,
        /// By direction.
        carried: [Frames; 2],
        /// By direction.
        unseen: [Loss; 2],
    },
    /// It was gone before any packet could be counted under this number.
    Missed(InterfaceNumber, InterfaceKey, Named),
    /// What is known of an interface has changed, if it still has this number.
    Rename(InterfaceNumber, InterfaceKey, Named),
    /// No more packets will be counted under this number.
    Retire(InterfaceNumber),
    /// The daemon stops: what is left is recorded until this deadline.
    Stop(Deadline),
}

/// What an interface's records are to say of it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    subject: Arc<Subject>,
    /// Whose they are is not all known and may yet be.
    awaits_identity: bool,
    /// It was there before the daemon.
    older: bool,
}

impl Named {
    fn new(observed: &Observed) -> Self {
        Self {
            subject: Arc::new(Subject::new(observed)),
            awaits_identity: observed.awaits_identity,
            older: observed.older,
        }
    }
}

impl Event {
    pub(super) fn register(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Register(number, observed.key, Named::new(observed))
    }

    pub(super) fn missed(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Missed(number, observed.key, Named::new(observed))
    }

    pub(super) fn rename(number: InterfaceNumber, observed: &Observed) -> Self {
        Self::Rename(number, observed.key, Named::new(observed))
    }
}

/// What the tick is made for.
#[derive(Debug)]
pub(super) struct TickOptions {
    /// Seconds per window.
    pub(super) window_seconds: u32,
    /// Flows in a window; an interface within its share may make more, so it can be twice as many.
    pub(super) max_flows: usize,
    /// Room for the flows of all windows.
    pub(super) room: Room,
    /// What it is told. Ends the tick when its other end is gone.
    pub(super) events: Receiver<Event>,
    /// How long the last records may take where nobody gives a deadline.
    pub(super) stop_timeout: Duration,
    /// Numbers under which everything is recorded.
    pub(super) freed: Sender<InterfaceNumber>,
}

/// The ring is looked at this often while it is busy, and this often while it is not. Looking busily makes each entry
/// dearer for the programs, and a wake-up for each entry dearer still.
const RING_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The state of the tick's thread.
#[derive(Debug)]
pub(super) struct Tick {
    options: TickOptions,
    drain: Drain,
    sinks: Option<Sinks>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    window: Window,
    flows: Table,
    interfaces: Tracked,
    /// `None` where nobody knows who sends.
    senders: Option<Senders>,
    /// Batches of interfaces of which it may yet become known whose they are.
    held: Vec<Held>,
    watermark: Watermark,
    /// Interfaces that were there before the daemon, of which the gap is told: it may leave one and come back to it.
    gaps_told: BTreeSet<InterfaceKey>,
    /// The deadline of a stop that has begun.
    stop: Option<Deadline>,
}

/// Why the tick ended in other than good order.
#[derive(Debug, thiserror::Error)]
pub(super) enum TickError {
    /// The kernel's counts cannot be read.
    #[error("{0}")]
    Kernel(#[from] KernelError),
    /// Not all outputs took the last records.
    #[error("the last records were not written: {0}")]
    Sinks(#[from] SinksError),
}

/// One line of text, on a disk that may be busy with what was just written.
const WATERMARK_GRACE: Duration = Duration::from_millis(500);

/// The interfaces by their numbers.
#[derive(Debug)]
struct Tracked {
    places: Vec<Place>,
    /// Counts of interfaces whose registration is still on its way.
    early: Vec<Delta>,
    shares: Shares,
    /// What the window had no room for, until it is told.
    refused: Loss,
    /// Packets of this window among them.
    refused_in_window: u64,
    /// Packets that were rejected behind the hook, and for whose own flow the window had no room, until it is told.
    rejects_refused: u64,
}

/// A number, and who has it.
#[derive(Debug, Default)]
struct Place {
    interface: Option<Box<Interface>>,
    /// The account under this number when its last holder left: ledgers are never reset.
    base: [Ledger; 2],
}

/// How far an interface is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Packets come.
    Counted,
    /// No more packets come.
    Retired,
    /// A drain has passed since then: all that was counted is in the open window, or in one before.
    Complete,
    /// The window that held the last of it is closed; only records that wait keep its number.
    Closed,
}

/// An interface that packets are counted for.
#[derive(Debug)]
struct Interface {
    number: InterfaceNumber,
    key: InterfaceKey,
    id: Arc<str>,
    named: Named,
    /// UNIX milliseconds until which its records may wait.
    patience_ms: i64,
    /// [`None`] until all packets are counted: from then on it is on the metrics page.
    hook: Option<IngressHook>,
    /// The account under its number before it came.
    base: [Ledger; 2],
    /// The account at the last tick, less the base.
    ledger: [Ledger; 2],
    recorded: [[Lost; Protocol::ALL.len()]; 2],
    /// How much of it is in the totals of its service.
    totalled: [[Lost; Protocol::ALL.len()]; 2],
    /// What passed without being counted by its programs.
    uncounted: UncountedLosses,
    /// What it has carried by its own counters, by direction.
    carried: [Frames; 2],
    /// What its hooks did not see, by direction.
    claims: [Claim; 2],
    /// Its programs are gone: packets pass uncounted, and it is not known yet how many.
    removed: bool,
    /// All that it carried passed uncounted, and nobody knows how much that was.
    untold: bool,
    /// What went into no window, because it was full.
    refused: [Loss; 2],
    /// What the kernel dropped of it, and why.
    dropped: Vec<Dropped>,
    /// Packets that went into the open window.
    window_packets: u64,
    /// Flows that it has there.
    window_flows: usize,
    /// What was lost up to the end of the last window.
    lost_before: Loss,
    /// When its packets were first counted, in UNIX seconds, where it was there before that and it is to be told.
    observed_from: Option<i64>,
    stage: Stage,
}

impl Tick {
    pub(super) fn new(
        options: TickOptions,
        drain: Drain,
        senders: Option<Senders>,
        (sinks, watermark): (Sinks, Watermark),
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        let now = clock::unix_ms();
        health.ticked(now);
        Self {
            window: Window::holding(now, options.window_seconds),
            interfaces: Tracked::new(Shares::new(options.max_flows, options.room.clone())),
            options,
            drain,
            sinks: Some(sinks),
            metrics,
            health,
            flows: Table::new(),
            senders,
            held: Vec::new(),
            watermark,
            gaps_told: BTreeSet::new(),
            stop: None,
        }
    }

    /// Ticks until it is told to stop; then records what is left.
    pub(super) fn run(mut self) -> Result<(), TickError> {
        let result = self.tick_until_stopped();
        let deadline = self.stop.take().unwrap_or_else(|| Deadline::after(self.options.stop_timeout));
        // Whatever happened: what was counted is written.
        let last = self.tick(true);
        self.offer_held(true);
        let batch = self.close_window(true, 0);
        let written = match self.sinks.take() {
            Some(sinks) => sinks.finish(batch, &deadline),
            None => Ok(()),
        };
        self.watermark.finish(&deadline.later(WATERMARK_GRACE));
        result.and(last)?;
        Ok(written?)
    }

    fn tick_until_stopped(&mut self) -> Result<(), KernelError> {
        let mut ring_pause = RING_PAUSES[1];
        let mut next_tick = next_second();
        loop {
            let until_tick = next_tick - clock::unix_ms();
            // A clock that was set back must not stop the ticks.
            let until_tick = Duration::from_millis(until_tick.clamp(0, 1000) as u64);
            match self.options.events.recv_timeout(until_tick.min(ring_pause)) {
                Ok(event) => self.handle(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.handle_waiting();
            if self.stop.is_some() {
                return Ok(());
            }
            let spilled = self.take_ring();
            ring_pause = if spilled == 0 { (ring_pause * 2).min(RING_PAUSES[1]) } else { RING_PAUSES[0] };
            let now = clock::unix_ms();
            if now >= next_tick || next_tick - now > 1000 {
                self.tick(false)?;
                next_tick = next_second();
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Register(number, key, named) => {
                self.put(number, key, named);
            }
            Event::Missed(number, key, named) => {
                self.put(number, key, named);
                if let Some(interface) = self.interfaces.get(number) {
                    interface.untold = true;
                    interface.stage = Stage::Retired;
                }
            }
            Event::Rename(number, key, named) => {
                if let Some(interface) = self.interfaces.get(number).filter(|it| it.key == key) {
                    interface.named = named;
                }
            }
            Event::Attached(number, hook, missed) => {
                if let Some(interface) = self.interfaces.get(number) {
                    interface.hook = Some(hook);
                    if interface.named.older && self.gaps_told.insert(interface.key) {
                        interface.observed_from = Some(clock::unix_ms().div_euclid(1000));
                    }
                }
                self.lose(number, Uncounted::BeforeAttach, missed);
            }
            Event::Removed(number) => {
                if let Some(interface) = self.interfaces.get(number) {
                    interface.removed = true;
                }
            }
            Event::Restored(number, hook, missed) => {
                if let Some(interface) = self.interfaces.get(number) {
                    interface.hook = Some(hook);
                    interface.removed = false;
                }
                self.lose(number, Uncounted::HookRemoved, missed);
            }
            Event::Carried { number, key, carried, unseen } => {
                if let Some(interface) = self.interfaces.get(number).filter(|it| it.key == key) {
                    interface.carried = carried;
                    let certain = interface.certain(unseen);
                    self.lose(number, Uncounted::Unseen, certain);
                }
            }
            Event::Retire(number) => {
                if let Some(interface) = self.interfaces.get(number) {
                    interface.stage = Stage::Retired;
                }
            }
            Event::Stop(deadline) => self.stop = Some(deadline),
        }
    }

    /// Packets of an interface passed uncounted.
    fn lose(&mut self, number: InterfaceNumber, reason: Uncounted, losses: [Loss; 2]) {
        if let Some(interface) = self.interfaces.get(number) {
            interface.uncounted.add(reason, losses);
            for loss in losses {
                self.metrics.uncounted(reason, loss);
            }
        }
    }

    fn put(&mut self, number: InterfaceNumber, key: InterfaceKey, named: Named) {
        // Records of its first window may wait for as long as a window is.
        let patience = self.window.end + i64::from(self.options.window_seconds);
        self.interfaces.put(number, key, named, patience * 1000);
        self.share();
    }

    /// All that waits; then what came before its registration finds its interface.
    fn handle_waiting(&mut self) {
        while let Ok(event) = self.options.events.try_recv() {
            self.handle(event);
        }
        for delta in std::mem::take(&mut self.interfaces.early) {
            self.interfaces.add(&mut self.flows, self.window, delta);
        }
    }

    fn take_ring(&mut self) -> u64 {
        let Self { drain, flows, interfaces, window, .. } = self;
        let spilled = drain.read_ring(|_, delta| interfaces.add(flows, *window, delta));
        self.metrics.spilled(spilled);
        spilled
    }

    /// Drains, and closes the window if it is over. With `last`, the window is left to the caller.
    fn tick(&mut self, last: bool) -> Result<(), KernelError> {
        // Events that are waiting were sent before this: what retired before the flip is complete after the drain.
        self.handle_waiting();
        let now = clock::unix_ms();
        let over = !last && self.window.is_over(now);
        let next = self.window.next(now, self.options.window_seconds);
        let mut early = Table::new();
        let retired: Vec<_> = self
            .interfaces
            .all()
            .filter(|interface| interface.stage == Stage::Retired)
            .map(|i| i.number)
            .collect();

        let Self { drain, flows, interfaces, window, .. } = self;
        let end_ms = window.end * 1000;
        let report = drain.drain(|side, delta| {
            // A tick that is late finds flows that began when the window was over.
            if over && (side == Side::After || delta.counters.first_ms >= end_ms) {
                interfaces.add(&mut early, next, delta);
            } else {
                interfaces.add(flows, *window, delta);
            }
        })?;
        if let Some(drops) = drain.drops() {
            for (key, packets) in drops.take_undelivered() {
                if !flows.note_undelivered(&key, packets) && !early.note_undelivered(&key, packets) {
                    self.metrics.drops().undelivered_late(packets);
                }
            }
        }
        if let Some(senders) = &mut self.senders {
            // Names are not what accounting may fail for.
            if let Err(error) = senders.take(drain) {
                tracing::warn!(%error, "tasks in host mode have no names from now on");
                self.senders = None;
            }
        }
        // One that left while the tick was late may have flows that belong to the next window, and stays until then.
        let in_next: BTreeSet<_> = early.flows().map(|delta| delta.key.interface()).collect();
        for number in retired.into_iter().filter(|number| !in_next.contains(number)) {
            if let Some(interface) = self.interfaces.get(number) {
                interface.stage = Stage::Complete;
            }
        }
        self.metrics.drained(&report);
        self.read_ledgers();
        self.metrics.window_refused(std::mem::take(&mut self.interfaces.refused));
        self.metrics.drops().refused(std::mem::take(&mut self.interfaces.rejects_refused));
        self.read_drops();
        if over {
            let start = Instant::now();
            let mut batch = self.close_window(false, early.in_memory());
            let waiting = self.interfaces.waiting(now);
            if !waiting.is_empty() {
                self.held.push(Held::split(&mut batch, &waiting, &self.options.room));
            }
            if let Some(sinks) = &self.sinks {
                sinks.offer(batch);
            }
            self.window = next;
            // Its packets were counted for the window that closed, as seen from their interface.
            for delta in early.flows() {
                if let Some(interface) = self.interfaces.get(delta.key.interface()) {
                    if !delta.key.is_rejected_behind_hook() {
                        interface.window_packets += delta.counters.packets;
                    }
                    interface.window_flows += 1;
                }
            }
            self.flows = early;
            self.metrics.window_closed(start.elapsed());
        }
        self.offer_held(false);
        self.publish();
        self.health.ticked(clock::unix_ms());
        Ok(())
    }

    /// Offers the held batches that need not wait any longer; all of them with `last`.
    fn offer_held(&mut self, last: bool) {
        let waiting = if last { BTreeSet::new() } else { self.interfaces.waiting(clock::unix_ms()) };
        let (wait, ready) = std::mem::take(&mut self.held).into_iter().partition(|held| held.waits(&waiting));
        self.held = wait;
        let ready: Vec<Held> = ready;
        for mut held in ready {
            for (number, subject) in &mut held.0.subjects {
                if let Some(interface) = self.interfaces.get(*number) {
                    *subject = Arc::clone(&interface.named.subject);
                }
            }
            if let Some(sinks) = &self.sinks {
                sinks.offer(held.0);
            }
        }
        for interface in self.interfaces.all().filter(|interface| !waiting.contains(&interface.number)) {
            interface.add_to_totals(&self.metrics);
        }
        let held: BTreeSet<_> = self.held.iter().flat_map(|held| held.0.subjects.keys().copied()).collect();
        let gone = self.interfaces.all().filter(|it| it.stage == Stage::Closed && !held.contains(&it.number));
        for number in gone.map(|interface| interface.number).collect::<Vec<_>>() {
            if let Some(mut interface) = self.interfaces.remove(number) {
                interface.add_to_totals(&self.metrics);
            }
            if let Some(drops) = self.drain.drops()
                && let Err(error) = drops.forget(number)
            {
                tracing::warn!(%error, "counts of drops could not be removed");
            }
            let _ = self.options.freed.send(number);
        }
    }

    fn read_ledgers(&mut self) {
        for interface in self.interfaces.all() {
            let now = self.drain.ledger(interface.number);
            for direction in Direction::ALL {
                let place = direction as usize;
                let ledger = grown(&now[place], &interface.base[place]);
                self.metrics.ledger_grew(direction, &grown(&ledger, &interface.ledger[place]));
                interface.ledger[place] = ledger;
            }
        }
    }

    fn read_drops(&mut self) {
        let Some(drops) = self.drain.drops() else { return };
        for interface in self.interfaces.all() {
            let now: Vec<_> = drops.of(interface.number).collect();
            for dropped in &now {
                let is_same =
                    |it: &&Dropped| (it.direction, &it.reason) == (dropped.direction, &dropped.reason);
                let before = interface.dropped.iter().find(is_same).map(|it| it.count).unwrap_or_default();
                let by = Loss {
                    packets: dropped.count.packets.saturating_sub(before.packets),
                    bytes: dropped.count.bytes.saturating_sub(before.bytes),
                };
                self.metrics.dropped(dropped.direction, &dropped.reason, by);
            }
            interface.dropped = now;
        }
        self.metrics.drops().set_totals(&drops.totals(), drops.of_none());
    }

    /// All that is to be recorded of the window; interfaces that are complete are forgotten. The next window holds
    /// `of_next` flows already.
    fn close_window(&mut self, last: bool, of_next: usize) -> Batch {
        self.metrics.drops().late(self.flows.settle());
        let mut window = self.window;
        if last {
            let now = clock::unix_ms().div_euclid(1000);
            window.end = now.clamp(window.start, window.end);
        }
        let (flows, owners) =
            (std::mem::take(&mut self.flows), self.senders.as_mut().map(Senders::close).unwrap_or_default());
        let room = &self.options.room;
        let mut batch = Batch {
            room: (Some(room.claim(flows.in_memory())), Some(Arc::new(room.claim(owners.len())))),
            flows,
            owners: Arc::new(owners),
            mark: Some(self.watermark.mark(window.end)),
            ..Batch::new(window)
        };
        for interface in self.interfaces.all().filter(|interface| interface.stage != Stage::Closed) {
            batch.subjects.insert(interface.number, Arc::clone(&interface.named.subject));
            let mut ever = lost(&interface.ledger);
            for other in interface.refused.into_iter().chain([interface.uncounted.total()]) {
                ever.packets += other.packets;
                ever.bytes += other.bytes;
            }
            let newly = Lost {
                packets: ever.packets - interface.lost_before.packets,
                bytes: ever.bytes - interface.lost_before.bytes,
            };
            if newly != Lost::default() || interface.untold || interface.removed {
                batch.lossy.push((interface.number, newly));
            } else if interface.window_packets == 0 && interface.hook.is_some() {
                batch.silent.push(interface.number);
            }
            if let Some(end) = interface.observed_from.take()
                && let Some(start) = self.watermark.left().filter(|start| *start < end)
            {
                batch.gaps.push((interface.number, Window { start, end }));
            }
            interface.lost_before = ever;
            interface.window_packets = 0;
            interface.window_flows = 0;
            // Its number is given back once no record waits.
            if interface.stage == Stage::Complete {
                interface.stage = Stage::Closed;
            }
        }
        let out_of_memory = self.interfaces.shares.close(of_next);
        self.share();
        let packets = std::mem::take(&mut self.interfaces.refused_in_window);
        if packets != 0 && out_of_memory {
            tracing::warn!(
                packets,
                "lost: more flows than fit into memory; a higher memory limit, a shorter --window or faster outputs help"
            );
        } else if packets != 0 {
            tracing::warn!(
                packets,
                "lost: more flows than a window may hold; --max-flows sets how many that are"
            );
        }
        batch
    }

    /// Divides the cache and the window among the interfaces that there are.
    fn share(&mut self) {
        let count = self.interfaces.all().filter(|interface| interface.stage != Stage::Closed).count().max(1);
        self.interfaces.shares.divide(count);
        self.drain.share_among(count);
    }

    fn publish(&mut self) {
        let interfaces = self
            .interfaces
            .all()
            .filter(|interface| interface.stage != Stage::Closed)
            .filter_map(|interface| {
                Some(InterfaceStats {
                    id: Arc::clone(&interface.id),
                    subject: Arc::clone(&interface.named.subject),
                    hook: interface.hook?.as_str(),
                    ledger: interface.ledger,
                    recorded: interface.recorded,
                    uncounted: interface.uncounted,
                    carried: interface.carried,
                    refused: interface.refused,
                    dropped: interface.dropped.clone(),
                })
            })
            .collect();
        self.metrics.publish(self.flows.len(), interfaces);
    }
}

/// UNIX milliseconds of the next whole second, on which every window's edge lies.
fn next_second() -> i64 {
    (clock::unix_ms().div_euclid(1000) + 1) * 1000
}

impl Tracked {
    fn new(shares: Shares) -> Self {
        Self {
            places: (0..=MAX_INTERFACES).map(|_| Place::default()).collect(),
            early: Vec::new(),
            shares,
            refused: Loss::default(),
            refused_in_window: 0,
            rejects_refused: 0,
        }
    }

    fn get(&mut self, number: InterfaceNumber) -> Option<&mut Interface> {
        self.places.get_mut(usize::from(number.get()))?.interface.as_deref_mut()
    }

    fn put(&mut self, number: InterfaceNumber, key: InterfaceKey, named: Named, patience_ms: i64) {
        if let Some(place) = self.places.get_mut(usize::from(number.get())) {
            place.interface = Some(Box::new(Interface::new(number, key, named, patience_ms, &place.base)));
        }
    }

    /// Interfaces whose records are to wait until it is known whose they are.
    fn waiting(&mut self, unix_ms: i64) -> BTreeSet<InterfaceNumber> {
        let waits = |it: &&mut Interface| it.named.awaits_identity && unix_ms < it.patience_ms;
        self.all().filter(waits).map(|interface| interface.number).collect()
    }

    fn remove(&mut self, number: InterfaceNumber) -> Option<Box<Interface>> {
        let place = self.places.get_mut(usize::from(number.get()))?;
        let interface = place.interface.take()?;
        for (base, ledger) in place.base.iter_mut().zip(&interface.ledger) {
            *base = sum(base, ledger);
        }
        Some(interface)
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Interface> {
        self.places.iter_mut().filter_map(|place| place.interface.as_deref_mut())
    }

    /// Adds to a flow of the window, and to the interface's own sums.
    fn add(&mut self, flows: &mut Table, window: Window, mut delta: Delta) {
        let number = usize::from(delta.key.interface().get());
        let Some(interface) = self.places.get_mut(number).and_then(|place| place.interface.as_deref_mut())
        else {
            // It is registered before its first packet, but we may not have read that yet.
            self.early.push(delta);
            return;
        };
        // The coarse clock lags by up to 10 ms, so a packet behind a window's edge may carry a time before it.
        delta.counters.begin_no_earlier_than(window.start * 1000);
        let growth = self.shares.growth(flows.len(), interface.window_flows);
        let direction = delta.key.direction() as usize;
        // Recorded as a part of what was accepted: `Table::settle` divides them.
        let is_part = delta.key.is_rejected_behind_hook();
        match flows.add_if(&delta, growth == Growth::Allowed) {
            Added::Known => {}
            Added::New => {
                interface.window_flows += 1;
                self.shares.grew();
            }
            Added::Refused if is_part => {
                self.rejects_refused += delta.counters.packets;
                return;
            }
            Added::Refused => {
                self.shares.refused(growth);
                interface.refused[direction].packets += delta.counters.packets;
                interface.refused[direction].bytes += delta.counters.bytes;
                self.refused.packets += delta.counters.packets;
                self.refused.bytes += delta.counters.bytes;
                self.refused_in_window += delta.counters.packets;
                return;
            }
        }
        if is_part {
            return;
        }
        let protocol = Protocol::of(delta.key.protocol()) as usize;
        let recorded = &mut interface.recorded[direction][protocol];
        recorded.packets += delta.counters.packets;
        recorded.bytes += delta.counters.bytes;
        interface.window_packets += delta.counters.packets;
    }
}

impl Interface {
    /// Adds what was recorded since the last time to the totals of its service, which outlive it. Not while its name is
    /// awaited: totals cannot be moved to another one.
    fn add_to_totals(&mut self, metrics: &Metrics) {
        for direction in Direction::ALL {
            for protocol in Protocol::ALL {
                let recorded = self.recorded[direction as usize][protocol as usize];
                let totalled = &mut self.totalled[direction as usize][protocol as usize];
                let by = Lost {
                    packets: recorded.packets - totalled.packets,
                    bytes: recorded.bytes - totalled.bytes,
                };
                if by != Lost::default() {
                    metrics.recorded(&self.named.subject, direction, protocol, by);
                    *totalled = recorded;
                }
            }
        }
    }

    /// The part of what its hooks did not see that no drop explains.
    fn certain(&mut self, unseen: [Loss; 2]) -> [Loss; 2] {
        Direction::ALL.map(|direction| {
            let side = direction as usize;
            let before = |it: &&Dropped| it.direction == direction && may_precede_hook(direction, &it.reason);
            let explained = self.dropped.iter().filter(before).fold(Loss::default(), |sum, it| Loss {
                packets: sum.packets + it.count.packets,
                bytes: sum.bytes + it.count.bytes,
            });
            self.claims[side].add(unseen[side], explained)
        })
    }

    fn new(
        number: InterfaceNumber,
        key: InterfaceKey,
        named: Named,
        patience_ms: i64,
        base: &[Ledger; 2],
    ) -> Self {
        // The same after a restart of the daemon, so that its series go on.
        let identity = (key.netns, key.ifindex, &named.subject.mac);
        let hash = foldhash::quality::FixedState::default().hash_one(identity);
        Self {
            number,
            key,
            id: format!("{:08x}", hash as u32).into(),
            named,
            patience_ms,
            hook: None,
            base: *base,
            ledger: [Ledger::default(); 2],
            recorded: [[Lost::default(); Protocol::ALL.len()]; 2],
            totalled: [[Lost::default(); Protocol::ALL.len()]; 2],
            uncounted: UncountedLosses::default(),
            carried: [Frames::default(); 2],
            claims: [Claim::default(); 2],
            removed: false,
            untold: false,
            refused: [Loss::default(); 2],
            dropped: Vec::new(),
            window_packets: 0,
            window_flows: 0,
            lost_before: Loss::default(),
            observed_from: None,
            stage: Stage::Counted,
        }
    }
}
