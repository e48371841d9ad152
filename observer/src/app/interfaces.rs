//! The thread that attaches programs to interfaces and detaches them.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{
    attached::Attached, changes::Change, detached::Detached, leaving::Leaving, numbers::Numbers,
    plan::plan, take_over::TakeOver, tick::Message, witness::Witness,
};
use crate::{
    accounts::Event,
    flow::InterfaceNumber,
    kernel::{
        Hook, KernelError, Loader, OnStop, XdpWish, drops::Watchlist, grace::Grace,
        ledger::Ledgers, spares::Spares, xdp::Refusal,
    },
    tasks::{AttachState, Board, InterfaceKey, InterfaceSet, Observed, WatchUpdate},
    telemetry::{Health, InterfaceCounts, Metrics},
};

/// The observed interfaces and their programs.
#[derive(Debug)]
pub(super) struct Interfaces {
    pub(super) spares: Spares,
    /// Number of interfaces that are attached at the same time, and for which programs are loaded
    /// in advance.
    pub(super) at_once: usize,
    pub(super) ledgers: Arc<Ledgers>,
    pub(super) hook: Hook,
    watchlist: Option<Watchlist>,
    pub(super) xdp: Option<XdpWish>,
    /// True if the programs report the sender on interfaces that several tasks share.
    pub(super) report_senders: bool,
    grace: Grace,
    pub(super) witness: Witness,
    pub(super) attached: BTreeMap<InterfaceKey, Attached>,
    /// Attached interfaces whose programs were removed.
    pub(super) detached: BTreeMap<InterfaceKey, Detached>,
    /// Number of removals since the last report.
    pub(super) removals: u64,
    pub(super) failed: BTreeMap<InterfaceKey, Failed>,
    /// Interfaces that are gone, and whose records may still wait for an identity. A missed
    /// interface has no number if none was left.
    departed: BTreeMap<InterfaceKey, (Option<InterfaceNumber>, Observed)>,
    pub(super) numbers: Numbers,
    pub(super) take_over: TakeOver,
    /// Directory of pinned links.
    pub(super) links: PathBuf,
    /// Handle of the filters of this daemon.
    pub(super) handle: u16,
    on_stop: OnStop,
    leaving: Leaving,
    pub(super) tick: Sender<Message>,
    pub(super) metrics: Arc<Metrics>,
    health: Arc<Health>,
    board: Arc<Board>,
}

/// Parts of [`Interfaces`].
#[derive(Debug)]
pub(super) struct InterfacesOptions {
    pub(super) loader: Loader,
    pub(super) ledgers: Arc<Ledgers>,
    /// Number of interfaces that are attached at the same time, and for which programs are loaded
    /// in advance.
    pub(super) at_once: usize,
    pub(super) hook: Hook,
    pub(super) xdp: Option<XdpWish>,
    /// True if the programs report the sender on interfaces that several tasks share.
    pub(super) report_senders: bool,
    pub(super) watchlist: Option<Watchlist>,
    pub(super) grace: Grace,
    pub(super) witness: Witness,
    pub(super) tick: Sender<Message>,
    /// Interface numbers to reuse.
    pub(super) freed: Receiver<InterfaceNumber>,
    /// Interfaces to which the programs of an earlier run are attached.
    pub(super) take_over: TakeOver,
    /// Directory of pinned links.
    pub(super) links: PathBuf,
    /// Handle of the filters of this daemon.
    pub(super) handle: u16,
    pub(super) on_stop: OnStop,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    pub(super) board: Arc<Board>,
}

/// An interface that could not be attached.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) attempts: u32,
    pub(super) again: Instant,
    pub(super) reason: Box<str>,
}

impl Interfaces {
    pub(super) fn new(options: InterfacesOptions) -> io::Result<Self> {
        let InterfacesOptions {
            loader,
            ledgers,
            at_once,
            hook,
            xdp,
            report_senders,
            watchlist,
            grace,
            witness,
            tick,
            freed,
            take_over,
            links,
            handle,
            on_stop,
            metrics,
            health,
            board,
        } = options;
        let last = loader.sizes().interfaces - 1;
        let numbers = Numbers::new(last, take_over.numbers(), freed);
        Ok(Self {
            spares: Spares::start(loader)?,
            at_once,
            ledgers,
            hook,
            watchlist,
            xdp,
            report_senders,
            grace,
            witness,
            attached: BTreeMap::new(),
            detached: BTreeMap::new(),
            removals: 0,
            failed: BTreeMap::new(),
            departed: BTreeMap::new(),
            numbers,
            take_over,
            links,
            handle,
            on_stop,
            leaving: Leaving::start(tick.clone())?,
            tick,
            metrics,
            health,
            board,
        })
    }

    /// Handles changes until the daemon stops. Then detaches all programs, unless they are kept.
    pub(super) fn run(mut self, changes: &Receiver<Change>) {
        // `None` until the watch has searched the host once: the daemon is not ready before.
        let mut desired: Option<InterfaceSet> = None;
        let mut ended = false;
        while !ended {
            self.prepare();
            let first = match changes.recv_timeout(self.next_attempt()) {
                Err(RecvTimeoutError::Disconnected) => break,
                first => first.ok(),
            };
            for change in first.into_iter().chain(changes.try_iter()) {
                match change {
                    // A newer list replaces the previous one.
                    Change::Watch(WatchUpdate::Interfaces(newer)) => desired = Some(newer),
                    Change::Watch(WatchUpdate::HooksGone(hooks)) => {
                        self.check_programs(|key| hooks.contains(&(key.netns, key.ifindex)));
                    }
                    Change::Suspected(suspected) => self.check_programs(|key| *key == suspected),
                    Change::Removed(key, missing) => self.removed(key, missing),
                    Change::Stop => ended = true,
                }
            }
            if let Some(desired) = desired.as_ref().filter(|_| !ended) {
                if !self.detached.is_empty() {
                    self.report(desired);
                }
                self.reattach_due();
                self.reconcile(&desired.present);
                self.follow_departed(&desired.departed);
                self.end_take_over(false);
                self.report(desired);
            }
        }
        if self.on_stop == OnStop::Keep {
            // The programs stay attached by their pins, and go on counting.
            return;
        }
        self.end_take_over(true);
        let all: Vec<_> = self.attached.keys().copied().collect();
        let all = self.leave(&all);
        self.leaving.detach(all);
    }

    /// Reports the state of the interfaces to metrics, health and the board.
    fn report(&mut self, desired: &InterfaceSet) {
        self.metrics.interfaces(InterfaceCounts {
            attached: self.attached.len() - self.detached.len(),
            detached: self.detached.len(),
            failed: self.failed.len(),
            agent_links: desired.agent_links,
            left_out: desired.left_out,
        });
        self.metrics.hooks_removed(std::mem::take(&mut self.removals));
        let states: BTreeMap<_, _> = self
            .attached
            .keys()
            .map(|key| {
                (*key, self.detached.get(key).map_or(AttachState::Observed, Detached::state))
            })
            .chain(
                self.failed.iter().map(|(key, it)| (*key, AttachState::Failed(it.reason.clone()))),
            )
            .collect();
        let line = |observed: &Observed| {
            let interface = &observed.interface;
            let (state, reason) = match states.get(&observed.key)? {
                AttachState::Observed => return None,
                AttachState::Detached(reason) => ("detached", reason),
                AttachState::Failed(reason) => ("failed", reason),
            };
            Some(format!(
                "{} in {}: {state}: {reason}",
                interface.name,
                interface.netns.path.display()
            ))
        };
        self.health.set_unobserved(desired.present.iter().filter_map(line).collect());
        self.board.set_attached(states);
        self.health.set_ready();
    }

    fn reconcile(&mut self, desired: &[Observed]) {
        let plan = plan(desired, &self.attached, |attached| &attached.observed);
        for observed in &plan.update {
            if let Some(attached) = self.attached.get_mut(&observed.key) {
                attached.observed = (*observed).clone();
                attached.attachment.netns = observed.interface.netns.clone();
                self.witness.update(&observed.key, &observed.interface);
                let _ = self.tick.send(Event::rename(attached.number, observed).into());
            }
        }
        // An interface that was renumbered or moved must be counted once, so it is detached before
        // it is attached again. All others are detached last, so that a new interface does not wait
        // for them.
        let mac_of =
            |key: &InterfaceKey| self.attached.get(key).and_then(|it| it.observed.interface.mac);
        let renumbered = |key: &InterfaceKey| {
            let mac = mac_of(key);
            plan.attach.iter().any(|it| {
                (it.key.netns, it.key.ifindex) == (key.netns, key.ifindex)
                    || mac.is_some() && it.interface.mac == mac
            })
        };
        let (first, last): (Vec<_>, Vec<_>) = plan.detach.iter().copied().partition(renumbered);
        let first = self.leave(&first);
        self.leaving.detach(first);
        self.failed.retain(|key, _| plan.attach.iter().any(|observed| observed.key == *key));
        let now = Instant::now();
        let due = |key| self.failed.get(key).is_none_or(|failed| failed.again <= now);
        let attach: Vec<_> =
            plan.attach.iter().copied().filter(|observed| due(&observed.key)).collect();
        // In groups, because programs are loaded in advance for this many interfaces.
        for together in attach.chunks(self.at_once) {
            self.attach(together);
            self.prepare();
        }
        let last = self.leave(&last);
        self.leaving.detach_later(last);
    }

    /// Follows interfaces that are gone: renames those that were observed, and reports those that
    /// were gone before they could be.
    fn follow_departed(&mut self, departed: &[Observed]) {
        self.departed.retain(|key, _| departed.iter().any(|observed| observed.key == *key));
        for observed in departed {
            match self.departed.get_mut(&observed.key) {
                Some((_, before)) if before == observed => {}
                Some((number, before)) => {
                    if let Some(number) = *number {
                        let _ = self.tick.send(Event::rename(number, observed).into());
                    }
                    before.clone_from(observed);
                }
                None => self.miss(observed),
            }
        }
    }

    /// Reports an interface that was gone before its programs were attached.
    fn miss(&mut self, observed: &Observed) {
        let interface = &observed.interface;
        tracing::warn!(
            interface = &*interface.name,
            mac = interface.mac.map(tracing::field::display),
            netns = %interface.netns.path.display(),
            "an interface was gone before it could be observed"
        );
        self.metrics.interface_missed();
        self.board.add_missed();
        let number = self.numbers.take().ok();
        if let Some(number) = number {
            let _ = self.tick.send(Event::missed(number, observed).into());
        }
        self.departed.insert(observed.key, (number, observed.clone()));
    }

    pub(super) fn xdp_refused(&self, observed: &Observed, refusal: &Refusal) {
        tracing::warn!(
            interface = &*observed.interface.name,
            netns = %observed.interface.netns.path.display(),
            "packets towards the task are counted at TC: {refusal}"
        );
        self.metrics.xdp_refused(refusal.reason());
    }

    /// Changes the list of interfaces whose drops are watched. Drops are watched only while the
    /// programs are attached. A dropped packet that no hook has counted would be subtracted from
    /// other packets.
    pub(super) fn watch_drops(
        &mut self,
        observed: &Observed,
        change: impl FnOnce(&mut Watchlist, &InterfaceKey) -> Result<(), KernelError>,
    ) {
        let changed =
            self.watchlist.as_mut().map_or(Ok(()), |watchlist| change(watchlist, &observed.key));
        if let Err(error) = changed {
            let interface = &*observed.interface.name;
            tracing::warn!(interface, %error, "could not change if drops of an interface are watched");
        }
    }

    /// Stops checking these interfaces, detaches their XDP programs, and returns them for detaching
    /// the rest.
    fn leave(&mut self, keys: &[InterfaceKey]) -> Vec<Attached> {
        let mut leaving: Vec<_> =
            keys.iter().filter_map(|key| self.attached.remove_entry(key)).collect();
        let mut xdp = false;
        for (key, attached) in &mut leaving {
            self.witness.remove(key);
            if self.detached.remove(key).is_none() {
                self.watch_drops(&attached.observed, |watchlist, key| {
                    watchlist.remove(key.netns, key.ifindex)
                });
            }
            xdp |= attached.attachment.detach_xdp();
        }
        if xdp && let Err(error) = self.grace.wait() {
            tracing::warn!(%error, "the last super-packets may be counted as one packet each");
        }
        for (key, attached) in &leaving {
            self.departed.insert(*key, (Some(attached.number), attached.observed.clone()));
        }
        leaving.into_iter().map(|(_, attached)| attached).collect()
    }

    /// Time until the next attempt to attach programs; one hour if none is due.
    fn next_attempt(&self) -> Duration {
        let failed = self.failed.values().map(|failed| failed.again);
        let next = failed
            .chain(self.detached.values().map(|detached| detached.again))
            .chain(self.take_over.ends_at())
            .min();
        next.map_or(Duration::from_hours(1), |next| next.saturating_duration_since(Instant::now()))
    }
}
