//! The thread that checks observed interfaces: if their programs are still attached, and if the
//! programs see all frames that the interfaces carry.
//!
//! A thread of its own, because the kernel answers about a link only while no interface is being
//! changed. Neither a new interface nor the tick thread may wait for that.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use observer_ebpf::abi::{Direction, Ledger};

use super::{changes::Change, tick::Message};
use crate::{
    accounts::{
        Event, Frames, Seen,
        comparison::{Comparison, Reading},
        gap::Balance,
        unseen::Counting,
    },
    flow::{InterfaceNumber, Traffic},
    kernel::{self, Presence, ledger::Ledgers},
    linux::{clock, netlink::LinkCounters, netns::Netns},
    tasks::{Interface, InterfaceKey, LinkKind},
    worker::QueueWorker,
};

/// Interval of checks for removed programs. They must be attached again within a second, including
/// loading.
const PERIOD: Duration = Duration::from_millis(400);
/// Interval of reading the ledgers.
const LEDGERS: Duration = Duration::from_secs(1);
/// Time before the end of a window from which it counts as ending. Longer than the interval of
/// reading the ledgers, so that at least one reading falls into it.
const EDGE_MS: i64 = 1500;

/// The interfaces to check.
type Registry = BTreeMap<InterfaceKey, Watched>;

/// An interface with attached programs.
#[derive(Debug)]
struct Watched {
    number: InterfaceNumber,
    netns: Netns,
    presence: Presence,
    /// `None` if the interface could not be read when the programs were attached.
    comparison: Option<Comparison>,
    /// A reading and its time. It is used only if the programs are still attached afterwards.
    reading: Option<(i64, Reading)>,
    /// Frames in the interface's ledger.
    frames: u64,
}

/// Handle of the thread.
#[derive(Debug)]
pub(super) struct Witness {
    registry: Arc<Mutex<Registry>>,
    ledgers: Arc<Ledgers>,
    began: Instant,
    /// Dropping it ends the thread.
    _thread: QueueWorker<()>,
}

/// State of the thread.
struct Worker {
    registry: Arc<Mutex<Registry>>,
    ledgers: Arc<Ledgers>,
    began: Instant,
    window_ms: i64,
    tick: Sender<Message>,
    changes: Sender<Change>,
    /// True if a failed check was logged.
    error_logged: bool,
}

impl Watched {
    /// Compares the last reading, if the programs are still attached.
    fn take_reading(&mut self, key: InterfaceKey, there: bool) -> Option<Event> {
        let (time, reading) = self.reading.take().filter(|_| there)?;
        let comparison = self.comparison.as_mut()?;
        let unseen = comparison.compare(time, reading);
        Some(Event::Carried { number: self.number, key, carried: comparison.carried(), unseen })
    }
}

impl Witness {
    /// Starts the thread. It sends the results of comparisons to `tick`, and missing programs to
    /// `changes`.
    pub(super) fn start(
        ledgers: Arc<Ledgers>,
        window_seconds: u32,
        tick: Sender<Message>,
        changes: Sender<Change>,
    ) -> io::Result<Self> {
        let (registry, began) = (Arc::<Mutex<Registry>>::default(), Instant::now());
        let mut worker = Worker {
            registry: Arc::clone(&registry),
            ledgers: Arc::clone(&ledgers),
            began,
            window_ms: i64::from(window_seconds) * 1000,
            tick,
            changes,
            error_logged: false,
        };
        let thread = QueueWorker::spawn("witness", move |stop| worker.run(&stop))?;
        Ok(Self { registry, ledgers, began, _thread: thread })
    }

    /// Starts checking an interface. `reading` was taken when the programs were attached.
    pub(super) fn add(
        &self,
        key: InterfaceKey,
        interface: &Interface,
        (number, presence): (InterfaceNumber, Presence),
        reading: Option<&kernel::Reading>,
    ) {
        let now = milliseconds(self.began);
        let comparison =
            reading.map(|reading| Comparison::new(counting(interface), now, in_accounts(reading)));
        let frames = self.ledgers.frames(number);
        let netns = interface.netns.clone();
        let watched = Watched { number, netns, presence, comparison, reading: None, frames };
        lock(&self.registry).insert(key, watched);
    }

    /// Stops checking an interface. Call before its programs are detached. Returns its last
    /// reading.
    pub(super) fn remove(&self, key: &InterfaceKey) -> Option<[Balance; 2]> {
        let watched = lock(&self.registry).remove(key)?;
        watched.comparison.map(|comparison| comparison.balance())
    }

    /// Updates the data of an interface: the path of its namespace, and if frames queue on it.
    pub(super) fn update(&self, key: &InterfaceKey, interface: &Interface) {
        if let Some(watched) = lock(&self.registry).get_mut(key) {
            watched.netns.clone_from(&interface.netns);
            if let Some(comparison) = &mut watched.comparison {
                comparison.set_counting(counting(interface), milliseconds(self.began));
            }
        }
    }
}

impl Worker {
    fn run(&mut self, stop: &Receiver<()>) {
        let mut next_ledgers = Instant::now();
        while matches!(stop.recv_timeout(PERIOD), Err(RecvTimeoutError::Timeout)) {
            self.check_programs();
            let now = Instant::now();
            if now >= next_ledgers {
                next_ledgers = now + LEDGERS;
                self.compare();
            }
        }
    }

    fn check_programs(&mut self) {
        let keys: Vec<_> = lock(&self.registry).keys().copied().collect();
        for key in keys {
            // One interface at a time, because the thread that detaches programs waits for this
            // lock.
            let mut registry = lock(&self.registry);
            let Some(watched) = registry.get_mut(&key) else { continue };
            let missing = watched.presence.missing();
            let event = watched.take_reading(key, matches!(missing, Ok(missing) if !missing.any()));
            drop(registry);
            match missing {
                Ok(missing) if missing.any() => self.send(Change::Removed(key, missing)),
                Err(error) if !self.error_logged => {
                    self.error_logged = true;
                    tracing::warn!(%error, "cannot check if programs are still attached");
                }
                Ok(_) | Err(_) => {}
            }
            if let Some(event) = event {
                let _ = self.tick.send(event.into());
            }
        }
    }

    /// Compares the interfaces that are due with their ledgers.
    fn compare(&mut self) {
        let unix_ms = clock::unix_ms();
        let in_window = unix_ms.rem_euclid(self.window_ms);
        let window_ends = self.window_ms - in_window <= EDGE_MS;
        let now = milliseconds(self.began);
        let mut due = Vec::new();
        let mut settled = Vec::new();
        for (key, watched) in &mut *lock(&self.registry) {
            let Some(comparison) = &mut watched.comparison else { continue };
            let frames = self.ledgers.frames(watched.number);
            if frames != watched.frames || comparison.is_pending() {
                let seen = seen(&self.ledgers.of(watched.number));
                if frames != watched.frames {
                    comparison.note(now, seen);
                }
                let losses = comparison.settle(now, seen);
                settled.extend(unseen_event(*key, watched.number, comparison, losses));
                watched.frames = frames;
            }
            if comparison.is_due(now, now - in_window, window_ends) {
                due.push((*key, watched.number, watched.netns.clone()));
            }
        }
        for event in settled {
            let _ = self.tick.send(event.into());
        }
        self.read(&due);
    }

    fn read(&self, due: &[(InterfaceKey, InterfaceNumber, Netns)]) {
        if due.is_empty() {
            return;
        }
        let mut readings = Vec::new();
        let read = |(key, number, _): &(InterfaceKey, InterfaceNumber, Netns)| {
            let reading = kernel::Reading::take_here(key.ifindex, (&self.ledgers, *number));
            readings.extend(reading.map(|reading| (*key, *number, reading)));
        };
        // An interface that cannot be read is disappearing. The watch reports that.
        let _ = Netns::inside_each(due.iter(), |(_, _, netns)| netns, read);
        let now = milliseconds(self.began);
        for (key, number, reading) in readings {
            let reading = in_accounts(&reading);
            let mut registry = lock(&self.registry);
            let Some(watched) = registry.get_mut(&key).filter(|it| it.number == number) else {
                continue;
            };
            let suspicious =
                watched.comparison.as_ref().is_some_and(|it| it.is_suspicious(&reading));
            watched.reading = Some((now, reading));
            drop(registry);
            if suspicious {
                self.send(Change::Suspected(key));
            }
        }
    }

    fn send(&self, change: Change) {
        // There is no receiver while the daemon is stopping.
        let _ = self.changes.send(change);
    }
}

fn unseen_event(
    key: InterfaceKey,
    number: InterfaceNumber,
    comparison: &Comparison,
    losses: [Traffic; 2],
) -> Option<Event> {
    let event = Event::Carried { number, key, carried: comparison.carried(), unseen: losses };
    (losses != [Traffic::NONE; 2]).then_some(event)
}

fn counting(interface: &Interface) -> Counting {
    let card = interface.kind == LinkKind::Physical;
    Counting { rebase: !card && !interface.queued, card, ethernet: interface.ethernet }
}

fn milliseconds(since: Instant) -> i64 {
    since.elapsed().as_millis() as i64
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The interface's own counters, by direction.
pub(super) fn frames_of(carried: &LinkCounters) -> [Frames; 2] {
    std::array::from_fn(|side| Frames { count: carried.frames[side], bytes: carried.bytes[side] })
}

fn seen(ledgers: &[Ledger; 2]) -> [Seen; 2] {
    Direction::ALL.map(|direction| Seen::of(&ledgers[direction as usize], direction))
}

/// Converts a reading for the accounts.
pub(super) fn in_accounts(reading: &kernel::Reading) -> Reading {
    Reading { carried: frames_of(&reading.carried), seen: seen(&reading.ledgers) }
}
