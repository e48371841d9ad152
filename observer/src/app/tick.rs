//! The thread that drains the kernel each second and closes windows on their edges. Nothing can block it.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{owners::Senders, watermark::Watermark};
use crate::{
    accounts::{Accounts, Annex, Event, Limits, Outcome, Turn},
    clock,
    flow::InterfaceNumber,
    record::Batch,
    kernel::{Drain, KernelError, drain::Side, object::MAX_INTERFACES},
    sink::Sinks,
    telemetry::{Health, InterfaceStats, Metrics},
};

/// What the tick is made for.
#[derive(Debug)]
pub(super) struct TickOptions {
    /// Seconds per window.
    pub(super) window_seconds: u32,
    /// Flows in a window; an interface within its share may make more, so it can be twice as many.
    pub(super) max_flows: usize,
    /// Ends the tick when its other end is gone.
    pub(super) events: Receiver<Event>,
    /// Numbers under which everything is recorded.
    pub(super) freed: Sender<InterfaceNumber>,
}

/// Pauses between two looks at the spill ring: while it is busy, and while it is not. Looking without a pause makes each
/// entry dearer for the programs, and a wake-up for each entry dearer still.
const RING_PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// The state of the tick's thread.
#[derive(Debug)]
pub(super) struct Tick {
    events: Receiver<Event>,
    freed: Sender<InterfaceNumber>,
    accounts: Accounts,
    drain: Drain,
    sinks: Option<Sinks>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    /// `None` where the senders of shared interfaces are not known.
    senders: Option<Senders>,
    watermark: Watermark,
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
        let TickOptions { window_seconds, max_flows, events, freed } = options;
        let now = clock::unix_ms();
        health.ticked(now);
        let limits = Limits {
            window_seconds,
            max_flows,
            interfaces: MAX_INTERFACES,
            recorded_until: watermark.left(),
        };
        let (accounts, sinks) = (Accounts::new(limits, now), Some(sinks));
        Self { events, freed, accounts, drain, sinks, metrics, health, senders, watermark }
    }

    /// Ticks until the interfaces' thread is gone; then records what is left.
    pub(super) fn run(mut self) -> Result<(), String> {
        let result = self.tick_until_stopped();
        // Whatever happened: what was counted is written.
        let (last, batch) = self.last_tick();
        let written = match (self.sinks.take(), batch) {
            (Some(sinks), Some(batch)) => sinks.finish(batch),
            _ => Ok(()),
        };
        self.watermark.finish();
        result.and(last).map_err(|error| error.to_string())?;
        written.map_err(|error| format!("the last records were not written: {error}"))
    }

    fn tick_until_stopped(&mut self) -> Result<(), KernelError> {
        let mut ring_pause = RING_PAUSES[1];
        let mut next_tick = next_second();
        loop {
            let until_tick = next_tick - clock::unix_ms();
            // A clock that was set back must not stop the ticks.
            let until_tick = Duration::from_millis(until_tick.clamp(0, 1000) as u64);
            match self.events.recv_timeout(until_tick.min(ring_pause)) {
                Ok(event) => self.accounts.handle(event, clock::unix_ms()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.handle_waiting();
            let spilled = self.take_ring();
            ring_pause = if spilled == 0 { (ring_pause * 2).min(RING_PAUSES[1]) } else { RING_PAUSES[0] };
            let now = clock::unix_ms();
            if now >= next_tick || next_tick - now > 1000 {
                self.tick()?;
                next_tick = next_second();
            }
        }
    }

    /// Handles all events that wait; then counts that came before their registration find their interface.
    fn handle_waiting(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.accounts.handle(event, clock::unix_ms());
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
        // Events that wait were sent before this: what retired before the flip is complete after the drain.
        self.handle_waiting();
        let mut turn = self.accounts.begin(clock::unix_ms());
        self.drain(&mut turn)?;
        let start = Instant::now();
        let closes = turn.closes(&self.accounts);
        let annex = closes.map(|window| self.annex(window.end)).unwrap_or_default();
        let outcome = self.accounts.end(turn, annex);
        self.take_in(outcome);
        if closes.is_some() {
            self.metrics.window_closed(start.elapsed());
        }
        Ok(())
    }

    /// Drains once more, and closes the window. The last batch is left to the caller.
    fn last_tick(&mut self) -> (Result<(), KernelError>, Option<Batch>) {
        self.handle_waiting();
        let mut turn = self.accounts.begin_last(clock::unix_ms());
        let drained = self.drain(&mut turn);
        let annex = self.annex(self.accounts.last_window(&turn).end);
        let mut outcome = self.accounts.finish(turn, annex);
        let last = outcome.batches.pop();
        self.take_in(outcome);
        (drained, last)
    }

    /// Adds all that the kernel has counted.
    fn drain(&mut self, turn: &mut Turn) -> Result<(), KernelError> {
        let Self { drain, accounts, metrics, .. } = self;
        let report = drain.drain(|side, delta| accounts.add_drained(turn, side == Side::After, delta))?;
        metrics.drained(&report);
        if let Some(drops) = drain.drops() {
            for (key, packets) in drops.take_undelivered() {
                if !accounts.note_undelivered(turn, &key, packets) {
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
        accounts.read(|number| drain.ledger(number), |growth| metrics.ledger_grew(growth));
        Ok(())
    }

    /// Parts of a window's batch that the accounts do not know.
    fn annex(&mut self, end: i64) -> Annex {
        Annex {
            owners: self.senders.as_mut().map(Senders::close).unwrap_or_default(),
            mark: Some(self.watermark.mark(end)),
        }
    }

    /// Hands on the results of a tick.
    fn take_in(&mut self, outcome: Outcome) {
        let Outcome { batches, freed, late, missed, refused, rejects_refused, refused_in_window } = outcome;
        for batch in batches {
            if let Some(sinks) = &self.sinks {
                sinks.offer(batch);
            }
        }
        for number in freed {
            if let Some(drops) = self.drain.drops()
                && let Err(error) = drops.forget(number)
            {
                tracing::warn!(%error, "counts of drops could not be removed");
            }
            let _ = self.freed.send(number);
        }
        self.drain.share_among(self.accounts.open_interfaces());
        self.metrics.drops().late(late);
        self.metrics.missed(missed);
        self.metrics.window_refused(refused);
        self.metrics.drops().refused(rejects_refused);
        if refused_in_window != 0 {
            tracing::warn!(
                packets = refused_in_window,
                "lost: more flows than a window may hold; --max-flows sets how many that are"
            );
        }
        self.publish();
        self.health.ticked(clock::unix_ms());
    }

    fn publish(&mut self) {
        let drops = self.drain.drops();
        if let Some(drops) = &drops {
            self.metrics.drops().set_totals(&drops.totals(), drops.of_none());
        }
        let dropped = |number| drops.as_ref().map(|drops| drops.of(number).collect()).unwrap_or_default();
        let figures = self.accounts.figures().into_iter();
        let interfaces =
            figures.map(|figures| InterfaceStats { dropped: dropped(figures.number), figures }).collect();
        self.metrics.publish(self.accounts.flows(), interfaces);
    }
}

/// UNIX milliseconds of the next whole second, on which every window's edge lies.
fn next_second() -> i64 {
    (clock::unix_ms().div_euclid(1000) + 1) * 1000
}
