//! The thread that compares what is with what should be: whether the programs are still on their interfaces, and whether
//! they see what the interfaces carry.
//!
//! A thread of its own, because the kernel answers about a link only once no interface is being changed, and neither a
//! new interface nor the tick is to wait for that.

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
    clock,
    flow::{InterfaceNumber, Traffic},
    kernel::{self, Presence, ledger::Ledgers},
    netlink::LinkCounters,
    netns::Netns,
    tasks::{Interface, InterfaceKey, LinkKind},
    worker::QueueWorker,
};

/// Programs are looked for this often. Removed ones are to be back within a second, loading included.
const PERIOD: Duration = Duration::from_millis(400);
/// Ledgers are looked at this often.
const LEDGERS: Duration = Duration::from_secs(1);
/// So long before its end a window counts as ending: each is then met once by a look at the ledgers.
const EDGE_MS: i64 = 1500;

/// The interfaces that are watched.
type Registry = BTreeMap<InterfaceKey, Watched>;

/// An interface with programs on it.
#[derive(Debug)]
struct Watched {
    number: InterfaceNumber,
    netns: Netns,
    presence: Presence,
    /// [`None`] where it could not be read when the programs were put there.
    comparison: Option<Comparison>,
    /// A reading that counts once the programs are seen to be there afterwards.
    reading: Option<(i64, Reading)>,
    /// Frames in its ledger.
    frames: u64,
}

/// The handle of the thread.
#[derive(Debug)]
pub(super) struct Witness {
    registry: Arc<Mutex<Registry>>,
    ledgers: Arc<Ledgers>,
    began: Instant,
    /// Dropping it ends the thread.
    _thread: QueueWorker<()>,
}

/// The thread.
struct Worker {
    registry: Arc<Mutex<Registry>>,
    ledgers: Arc<Ledgers>,
    began: Instant,
    window_ms: i64,
    tick: Sender<Message>,
    changes: Sender<Change>,
    /// A failed look was logged.
    told: bool,
}

impl Watched {
    /// Compares by the last reading, if the programs have been there since.
    fn take_reading(&mut self, key: InterfaceKey, there: bool) -> Option<Event> {
        let (time, reading) = self.reading.take().filter(|_| there)?;
        let comparison = self.comparison.as_mut()?;
        let unseen = comparison.compare(time, reading);
        Some(Event::Carried { number: self.number, key, carried: comparison.carried(), unseen })
    }
}

impl Witness {
    /// Tells `tick` what the interfaces carry, and `changes` which programs are gone.
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
            told: false,
        };
        let thread = QueueWorker::spawn("witness", move |stop| worker.run(&stop))?;
        Ok(Self { registry, ledgers, began, _thread: thread })
    }

    /// Watches an interface from now on. `reading` was taken when the programs were on it.
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

    /// Watches it no longer: to be called before its programs are taken off.
    pub(super) fn remove(&self, key: &InterfaceKey) -> Option<[Balance; 2]> {
        let watched = lock(&self.registry).remove(key)?;
        watched.comparison.map(|comparison| comparison.balance())
    }

    /// Something about it has changed: the path of its namespace, or whether frames queue on it.
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
            self.look_for_programs();
            let now = Instant::now();
            if now >= next_ledgers {
                next_ledgers = now + LEDGERS;
                self.compare();
            }
        }
    }

    fn look_for_programs(&mut self) {
        let keys: Vec<_> = lock(&self.registry).keys().copied().collect();
        for key in keys {
            // One at a time: whoever takes programs off waits for this lock.
            let mut registry = lock(&self.registry);
            let Some(watched) = registry.get_mut(&key) else { continue };
            let missing = watched.presence.missing();
            let event = watched.take_reading(key, matches!(missing, Ok(missing) if !missing.any()));
            drop(registry);
            match missing {
                Ok(missing) if missing.any() => self.send(Change::Removed(key, missing)),
                Err(error) if !self.told => {
                    self.told = true;
                    tracing::warn!(%error, "cannot see whether programs are still on their interfaces");
                }
                Ok(_) | Err(_) => {}
            }
            if let Some(event) = event {
                let _ = self.tick.send(event.into());
            }
        }
    }

    /// Compares each interface that is due with its ledger.
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
        // An interface that cannot be read is leaving, and whoever watches namespaces says so.
        let _ = Netns::inside_each(due.iter(), |(_, _, netns)| netns, read);
        let now = milliseconds(self.began);
        for (key, number, reading) in readings {
            let reading = in_accounts(&reading);
            let mut registry = lock(&self.registry);
            let Some(watched) = registry.get_mut(&key).filter(|it| it.number == number) else { continue };
            let suspicious = watched.comparison.as_ref().is_some_and(|it| it.is_suspicious(&reading));
            watched.reading = Some((now, reading));
            drop(registry);
            if suspicious {
                self.send(Change::Suspected(key));
            }
        }
    }

    fn send(&self, change: Change) {
        // The receiver being gone means that the daemon is stopping.
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

/// An interface's own counters, by direction.
pub(super) fn frames_of(carried: &LinkCounters) -> [Frames; 2] {
    std::array::from_fn(|side| Frames { count: carried.frames[side], bytes: carried.bytes[side] })
}

fn seen(ledgers: &[Ledger; 2]) -> [Seen; 2] {
    Direction::ALL.map(|direction| Seen::of(&ledgers[direction as usize], direction))
}

/// A reading, as the accounts take it.
pub(super) fn in_accounts(reading: &kernel::Reading) -> Reading {
    Reading { carried: frames_of(&reading.carried), seen: seen(&reading.ledgers) }
}
