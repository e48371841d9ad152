//! The thread that drains the kernel each second and closes windows on their edges. Nothing can
//! block it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{owners::Senders, watermark::Watermark};
use crate::{
    accounts::{
        Accounts, BatchExtras, Event, Figures, Limits, OpenTick, Outcome, Uncounted,
        unexplained::may_precede_hook,
    },
    flow::{Direction, InterfaceNumber, Room, Traffic},
    kernel::{Drain, KernelError, MAX_INTERFACES, drain::Side, drops::Dropped},
    linux::clock,
    record::Batch,
    sink::{Sinks, SinksError},
    telemetry::{Health, InterfaceStats, Metrics},
    worker::Deadline,
};

/// A message to the tick.
#[derive(Debug)]
pub(super) enum Message {
    /// News of an interface.
    Interface(Event),
    /// The daemon stops: what is left is to be recorded until this deadline.
    Stop(Deadline),
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self::Interface(event)
    }
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

/// What the tick is made for.
#[derive(Debug)]
pub(super) struct TickOptions {
    /// Seconds per window.
    pub(super) window_seconds: u32,
    /// Flows in a window; an interface within its share may make more, so it can be twice as many.
    pub(super) max_flows: usize,
    /// Room in memory for the flows of all windows.
    pub(super) room: Room,
    /// The tick ends when the other end is gone.
    pub(super) messages: Receiver<Message>,
    /// Time that the last records may take where no message gives a deadline.
    pub(super) stop_timeout: Duration,
    /// Numbers under which everything is recorded.
    pub(super) freed: Sender<InterfaceNumber>,
    pub(super) drain: Drain,
    /// [`None`] where the senders of shared interfaces are not known.
    pub(super) senders: Option<Senders>,
    pub(super) sinks: Sinks,
    pub(super) watermark: Watermark,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
}

/// Pauses between two looks at the spill ring: while it is busy, and while it is not. Looking
/// without a pause makes each entry dearer for the programs, and a wake-up for each entry dearer
/// still.
const RING_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The state of the tick's thread.
#[derive(Debug)]
pub(super) struct Tick {
    messages: Receiver<Message>,
    stop_timeout: Duration,
    freed: Sender<InterfaceNumber>,
    accounts: Accounts,
    drain: Drain,
    sinks: Option<Sinks>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// `None` where the senders of shared interfaces are not known.
    senders: Option<Senders>,
    watermark: Watermark,
    /// Drops of each interface, as they were at the last tick.
    dropped: BTreeMap<InterfaceNumber, Vec<Dropped>>,
    stop: Option<Deadline>,
}

impl Tick {
    pub(super) fn new(options: TickOptions) -> Self {
        let TickOptions {
            window_seconds,
            max_flows,
            room,
            messages,
            stop_timeout,
            freed,
            drain,
            senders,
            sinks,
            watermark,
            metrics,
            health,
        } = options;
        let now = clock::unix_ms();
        health.ticked(now);
        let limits = Limits {
            window_seconds,
            max_flows,
            room,
            interfaces: MAX_INTERFACES,
            recorded_until: watermark.left(),
        };
        let (accounts, sinks) = (Accounts::new(limits, now), Some(sinks));
        Self {
            messages,
            stop_timeout,
            freed,
            accounts,
            drain,
            sinks,
            metrics,
            health,
            senders,
            watermark,
            dropped: BTreeMap::new(),
            stop: None,
        }
    }

    /// Ticks until a message says to stop; then records what is left.
    pub(super) fn run(mut self) -> Result<(), TickError> {
        let result = self.tick_until_stopped();
        let deadline = self.stop.take().unwrap_or_else(|| Deadline::after(self.stop_timeout));
        // Whatever happened: what was counted is written.
        let (last, batch) = self.last_tick();
        let written = match (self.sinks.take(), batch) {
            (Some(sinks), Some(batch)) => sinks.finish(batch, &deadline),
            _ => Ok(()),
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
            match self.messages.recv_timeout(until_tick.min(ring_pause)) {
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.handle_waiting();
            if self.stop.is_some() {
                return Ok(());
            }
            let spilled = self.take_ring();
            ring_pause =
                if spilled == 0 { (ring_pause * 2).min(RING_PAUSES[1]) } else { RING_PAUSES[0] };
            let now = clock::unix_ms();
            if now >= next_tick || next_tick - now > 1000 {
                self.tick()?;
                next_tick = next_second();
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Interface(event) => self.accounts.handle(event, clock::unix_ms()),
            Message::Stop(deadline) => self.stop = Some(deadline),
        }
    }

    /// Handles all messages that wait; then counts that came before their registration find their
    /// interface.
    fn handle_waiting(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.handle(message);
        }
        self.accounts.add_early();
        self.drain.share_among(self.accounts.open_interfaces());
    }

    fn take_ring(&mut self) -> u64 {
        let Self { drain, accounts, .. } = self;
        let spilled = drain.read_ring(|_, delta| accounts.add(delta));
        self.metrics.spilled(spilled);
        spilled
    }

    /// Drains, and closes the window where it is over.
    fn tick(&mut self) -> Result<(), KernelError> {
        // Events that wait were sent before this: what retired before the flip is complete after
        // the drain.
        self.handle_waiting();
        let mut tick = self.accounts.begin(clock::unix_ms());
        self.drain(&mut tick)?;
        let start = Instant::now();
        let closes = self.accounts.closing(&tick);
        let extras = closes.map(|window| self.batch_extras(window.end)).unwrap_or_default();
        let outcome = self.accounts.end(tick, extras);
        self.take_in(outcome);
        if closes.is_some() {
            self.metrics.window_closed(start.elapsed());
        }
        Ok(())
    }

    /// Drains once more, and closes the window. The last batch is left to the caller.
    fn last_tick(&mut self) -> (Result<(), KernelError>, Option<Batch>) {
        self.handle_waiting();
        let mut tick = self.accounts.begin_last(clock::unix_ms());
        let drained = self.drain(&mut tick);
        let extras = self.batch_extras(self.accounts.last_window(&tick).end);
        let mut outcome = self.accounts.finish(tick, extras);
        let last = outcome.batches.pop();
        self.take_in(outcome);
        (drained, last)
    }

    /// Adds all that the kernel has counted.
    fn drain(&mut self, tick: &mut OpenTick) -> Result<(), KernelError> {
        let Self { drain, accounts, metrics, .. } = self;
        let report =
            drain.drain(|side, delta| accounts.add_drained(tick, side == Side::After, delta))?;
        metrics.drained(&report);
        if let Some(drops) = drain.drops() {
            for (key, packets) in drops.take_undelivered() {
                if !accounts.note_undelivered(tick, &key, packets) {
                    metrics.drops().undelivered_late(packets);
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
        accounts.read(
            |number| drain.ledger(number),
            |direction, growth| metrics.ledger_grew(direction, growth),
        );
        Ok(())
    }

    /// Parts of a window's batch that the accounts do not know.
    fn batch_extras(&mut self, end: i64) -> BatchExtras {
        BatchExtras {
            owners: self.senders.as_mut().map(Senders::close).unwrap_or_default(),
            mark: Some(self.watermark.mark(end)),
        }
    }

    /// Hands on the results of a tick.
    fn take_in(&mut self, outcome: Outcome) {
        for (subject, direction, protocol, traffic) in outcome.recorded {
            self.metrics.recorded(&subject, direction, protocol, traffic);
        }
        for batch in outcome.batches {
            if let Some(sinks) = &self.sinks {
                sinks.offer(batch);
            }
        }
        for number in outcome.freed {
            self.dropped.remove(&number);
            if let Some(drops) = self.drain.drops()
                && let Err(error) = drops.forget(number)
            {
                tracing::warn!(%error, "counts of drops could not be removed");
            }
            let _ = self.freed.send(number);
        }
        self.drain.share_among(self.accounts.open_interfaces());
        self.metrics.drops().late(outcome.late);
        for reason in Uncounted::ALL {
            self.metrics.uncounted(reason, outcome.uncounted.of(reason).into_iter().sum());
        }
        self.metrics.window_refused(outcome.refused);
        self.metrics.drops().refused(outcome.rejects_refused);
        warn_of_refused(outcome.refused_in_window, outcome.out_of_memory);
        self.publish();
        self.health.ticked(clock::unix_ms());
    }

    /// Leaves the sums of all interfaces for the next scrape.
    fn publish(&mut self) {
        let figures = self.accounts.figures();
        if let Some(drops) = self.drain.drops() {
            self.metrics.drops().set_totals(&drops.totals(), drops.of_none());
            for number in figures.iter().map(|figures| figures.number) {
                let now: Vec<_> = drops.of(number).collect();
                self.accounts.explain(number, before_hook(&now));
                let before = self.dropped.insert(number, now.clone()).unwrap_or_default();
                for (dropped, newly) in grown(&before, &now) {
                    self.metrics.dropped(dropped.direction, &dropped.reason, newly);
                }
            }
        }
        let stats = |figures: Figures| {
            let dropped = self.dropped.get(&figures.number).cloned().unwrap_or_default();
            InterfaceStats { figures, dropped }
        };
        let interfaces = figures.into_iter().map(stats).collect();
        self.metrics.publish(self.accounts.flows(), interfaces);
    }
}

/// Drops that may have happened before the hook, by direction.
fn before_hook(dropped: &[Dropped]) -> [Traffic; 2] {
    Direction::ALL.map(|direction| {
        let precede =
            |it: &&Dropped| it.direction == direction && may_precede_hook(direction, &it.reason);
        dropped.iter().filter(precede).map(|it| Traffic::from(it.count)).sum()
    })
}

/// Growth of each sum of drops.
fn grown<'a>(
    before: &'a [Dropped],
    now: &'a [Dropped],
) -> impl Iterator<Item = (&'a Dropped, Traffic)> {
    now.iter().map(|dropped| {
        let is_same =
            |it: &&Dropped| (it.direction, &it.reason) == (dropped.direction, &dropped.reason);
        let earlier = before.iter().find(is_same).map(|it| it.count).unwrap_or_default();
        (dropped, Traffic::from(dropped.count).saturating_sub(earlier.into()))
    })
}

fn warn_of_refused(packets: u64, out_of_memory: bool) {
    if packets == 0 {
    } else if out_of_memory {
        tracing::warn!(
            packets,
            "lost: more flows than fit into memory; a higher memory limit, a shorter --window or faster outputs help"
        );
    } else {
        tracing::warn!(
            packets,
            "lost: more flows than a window may hold; --max-flows sets how many that are"
        );
    }
}

/// UNIX milliseconds of the next whole second, on which every window's edge lies.
fn next_second() -> i64 {
    (clock::unix_ms().div_euclid(1000) + 1) * 1000
}
