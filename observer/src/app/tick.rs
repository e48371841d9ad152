//! The thread that drains the kernel each second, and closes windows at their boundaries. While the
//! daemon runs, it never waits for other threads or outputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{
    dropped::{before_hook, grown, warn_of_refused},
    owners::Senders,
    saved::{Found, Saved, SavedOptions},
    watermark::Watermark,
};
use crate::{
    accounts::{Accounts, BatchExtras, Event, Figures, Limits, OpenTick, Outcome, Uncounted},
    flow::{InterfaceNumber, Room},
    kernel::{Drain, KernelError, MAX_INTERFACES, drain::Side, drops::Dropped},
    linux::clock,
    record::Batch,
    sink::{Sinks, SinksError},
    telemetry::{Health, InterfaceStats, Metrics},
    worker::Deadline,
};

/// A message to the tick thread.
#[derive(Debug)]
pub(super) enum Message {
    /// Event of an interface.
    Interface(Event),
    /// The programs of earlier runs are replaced or detached.
    TakenOver,
    /// The daemon stops. Everything must be recorded by this deadline.
    Stop(Deadline),
}

impl From<Event> for Message {
    fn from(event: Event) -> Self {
        Self::Interface(event)
    }
}

/// Error that the tick thread ended with.
#[derive(Debug, thiserror::Error)]
pub(super) enum TickError {
    /// The kernel's counts cannot be read.
    #[error("{0}")]
    Kernel(#[from] KernelError),
    /// Some outputs did not take the last records.
    #[error("the last records were not written: {0}")]
    Sinks(#[from] SinksError),
}

/// Extra time to write the watermark: one line of text, on a disk that may be busy with the last
/// records.
const WATERMARK_GRACE: Duration = Duration::from_millis(500);

/// Options of the tick thread.
#[derive(Debug)]
pub(super) struct TickOptions {
    /// Length of a window in seconds.
    pub(super) window_seconds: u32,
    /// Largest number of flows in a window. An interface within its share may exceed it, so a
    /// window may hold up to twice as many.
    pub(super) max_flows: usize,
    /// Memory for the flows of all windows.
    pub(super) room: Room,
    /// Messages. The tick thread ends when all senders are gone.
    pub(super) messages: Receiver<Message>,
    /// Time for the last records, if no message gives a deadline.
    pub(super) stop_timeout: Duration,
    /// Takes numbers whose counts are all recorded.
    pub(super) freed: Sender<InterfaceNumber>,
    pub(super) drain: Drain,
    /// `None` if the senders on shared interfaces are not known.
    pub(super) senders: Option<Senders>,
    pub(super) sinks: Sinks,
    pub(super) watermark: Watermark,
    /// State that an earlier run has left behind.
    pub(super) found: Found,
    pub(super) saved: SavedOptions,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
}

/// Pauses between two reads of the spill ring: while it is busy, and while it is idle. Reads
/// without a pause make each entry more expensive for the programs. A wake-up for each entry is
/// more expensive still.
const RING_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// State of the tick thread.
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
    /// `None` if the senders on shared interfaces are not known.
    senders: Option<Senders>,
    watermark: Watermark,
    saved: Option<Saved>,
    /// An interface was registered since the accounts were last written to the journal.
    registered: bool,
    /// Drops of each interface at the last tick.
    dropped: BTreeMap<InterfaceNumber, Vec<Dropped>>,
    stop: Option<Deadline>,
}

impl Tick {
    /// Continues where an earlier run has ended.
    pub(super) fn new(options: TickOptions) -> io::Result<Self> {
        let TickOptions {
            window_seconds,
            max_flows,
            room,
            messages,
            stop_timeout,
            freed,
            mut drain,
            senders,
            sinks,
            watermark,
            found,
            saved,
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
            recorded_until: watermark.recorded_until(),
        };
        let mut accounts = Accounts::new(limits, now);
        let saved = Some(found.restore(&mut accounts, &mut drain, &sinks, saved)?);
        let sinks = Some(sinks);
        Ok(Self {
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
            saved,
            registered: false,
            dropped: BTreeMap::new(),
            stop: None,
        })
    }

    /// Runs ticks until a message stops the thread. Then records everything that is left.
    pub(super) fn run(mut self) -> Result<(), TickError> {
        let result = self.tick_until_stopped();
        let deadline = self.stop.take().unwrap_or_else(|| Deadline::after(self.stop_timeout));
        // Everything that was counted is written, also after an error.
        let (last, batch) = self.last_tick();
        let written = match (self.sinks.take(), batch) {
            (Some(sinks), Some(batch)) => sinks.finish(batch, &deadline),
            _ => Ok(()),
        };
        self.watermark.finish(&deadline.later(WATERMARK_GRACE));
        if let Some(saved) = self.saved.take() {
            saved.finish(&deadline);
        }
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
            Message::Interface(event) => {
                self.registered |= matches!(event, Event::Register { .. });
                self.accounts.handle(event, clock::unix_ms());
            }
            Message::TakenOver => {
                if let Some(saved) = &mut self.saved {
                    saved.taken_over();
                }
            }
            Message::Stop(deadline) => self.stop = Some(deadline),
        }
    }

    /// Handles all pending messages. Then adds counts that arrived before their interface was
    /// registered.
    fn handle_waiting(&mut self) {
        while let Ok(message) = self.messages.try_recv() {
            self.handle(message);
        }
        self.accounts.add_early();
        if mem::take(&mut self.registered)
            && let Some(saved) = &mut self.saved
        {
            saved.commit_accounts(&mut self.accounts, &self.drain);
        }
        self.drain.share_among(self.accounts.open_interfaces());
    }

    fn take_ring(&mut self) -> u64 {
        let Self { drain, accounts, saved, .. } = self;
        let spilled = drain.read_ring(|_, delta| {
            let kept = accounts.add(delta);
            if let Some(saved) = saved {
                saved.add(&delta, kept);
            }
        });
        match saved {
            Some(saved) if spilled > 0 => saved.commit_ring(drain),
            _ => drain.clear(),
        }
        self.metrics.spilled(spilled);
        spilled
    }

    /// Drains the kernel. Closes the window if it is over.
    fn tick(&mut self) -> Result<(), KernelError> {
        // Pending events were sent before this point. So an interface that was retired before the
        // flip is complete after the drain.
        self.handle_waiting();
        let mut tick = self.accounts.begin(clock::unix_ms());
        self.drain(&mut tick)?;
        let start = Instant::now();
        let closes = self.accounts.closing(&tick);
        let extras = closes.map(|window| self.batch_extras(window.end)).unwrap_or_default();
        let mut outcome = self.accounts.end(tick, extras);
        if closes.is_some()
            && let Some(saved) = &mut self.saved
        {
            let (window, _) = self.accounts.in_window();
            let held = mem::take(&mut outcome.held);
            saved.rotate(&mut self.accounts, &self.drain, (window, held));
        }
        self.apply_outcome(outcome);
        if closes.is_some() {
            self.metrics.window_closed(start.elapsed());
        }
        Ok(())
    }

    /// Drains once more, and closes the window. Returns the last batch, which the caller writes.
    fn last_tick(&mut self) -> (Result<(), KernelError>, Option<Batch>) {
        self.handle_waiting();
        let mut tick = self.accounts.begin_last(clock::unix_ms());
        let drained = self.drain(&mut tick);
        let extras = self.batch_extras(self.accounts.last_window(&tick).end);
        let next = self.accounts.window_of_next_run(&tick);
        let mut outcome = self.accounts.finish(tick, extras);
        if let Some(saved) = &mut self.saved {
            saved.rotate(&mut self.accounts, &self.drain, (next, BTreeSet::new()));
        }
        let last = outcome.batches.pop();
        self.apply_outcome(outcome);
        (drained, last)
    }

    /// Adds everything that the kernel has counted.
    fn drain(&mut self, tick: &mut OpenTick) -> Result<(), KernelError> {
        let Self { drain, accounts, metrics, saved, .. } = self;
        let report = drain.read(|side, delta| {
            let kept = accounts.add_drained(tick, side == Side::After, delta);
            if let Some(saved) = saved {
                saved.add(&delta, kept);
            }
        })?;
        metrics.drained(&report);
        if let Some(drops) = drain.drops() {
            for (key, packets) in drops.take_undelivered() {
                if !accounts.note_undelivered(tick, &key, packets) {
                    metrics.drops().undelivered_late(packets);
                }
            }
        }
        if let Some(senders) = &mut self.senders {
            // Accounting must not fail because names are missing.
            if let Err(error) = senders.take(drain) {
                tracing::warn!(%error, "senders cannot be read: tasks in host mode are no longer identified");
                self.senders = None;
            }
        }
        accounts.read(
            |number| drain.ledger(number),
            |direction, growth| metrics.ledger_grew(direction, growth),
        );
        match saved {
            Some(saved) => saved.commit(accounts, drain),
            None => drain.clear(),
        }
        Ok(())
    }

    /// Parts of a window's batch that the accounts do not have.
    fn batch_extras(&mut self, end: i64) -> BatchExtras {
        BatchExtras {
            owners: self.senders.as_mut().map(Senders::close).unwrap_or_default(),
            sequence: self.saved.as_ref().map(Saved::sequence),
            mark: Some({
                let mark = self.watermark.mark(end);
                self.saved.as_ref().map_or(mark.clone(), |saved| saved.mark(mark))
            }),
        }
    }

    /// Hands over the results of a tick.
    fn apply_outcome(&mut self, outcome: Outcome) {
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

    /// Publishes the sums of all interfaces for the next scrape.
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

/// UNIX milliseconds of the next whole second. Every window ends on a whole second.
fn next_second() -> i64 {
    (clock::unix_ms().div_euclid(1000) + 1) * 1000
}
