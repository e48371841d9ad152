//! The thread that puts the programs on interfaces and takes them off.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::{Duration, Instant},
};

use super::{plan::plan, tick::Event};
use crate::{
    flow::InterfaceNumber,
    kernel::{
        Attachment, Hook, KernelError, Loader, XdpWish,
        attachment::remove_quiet,
        drops::Watchlist,
        grace::Grace,
        xdp::{self, Refusal},
    },
    record::Subject,
    tasks::{InterfaceKey, Observed},
    telemetry::{Health, Metrics},
};

/// What is on which interface.
#[derive(Debug)]
pub(super) struct Interfaces {
    loader: Loader,
    hook: Hook,
    watchlist: Option<Watchlist>,
    xdp: Option<XdpWish>,
    grace: Grace,
    attached: BTreeMap<InterfaceKey, Attached>,
    failed: BTreeMap<InterfaceKey, Failed>,
    numbers: Numbers,
    tick: Sender<Event>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct Attached {
    observed: Observed,
    number: InterfaceNumber,
    attachment: Attachment,
}

/// An interface that could not be attached.
#[derive(Debug)]
struct Failed {
    attempts: u32,
    again: Instant,
}

/// Pauses between attempts double from the first to the second.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];

impl Interfaces {
    pub(super) fn new(
        loader: Loader,
        (hook, xdp): (Hook, Option<XdpWish>),
        watchlist: Option<Watchlist>,
        grace: Grace,
        (tick, freed): (Sender<Event>, Receiver<InterfaceNumber>),
        metrics: Arc<Metrics>,
        health: Arc<Health>,
    ) -> Self {
        let numbers = Numbers { last: loader.sizes().interfaces - 1, next: 1, free: Vec::new(), freed };
        Self {
            loader,
            hook,
            watchlist,
            xdp,
            grace,
            attached: BTreeMap::new(),
            failed: BTreeMap::new(),
            numbers,
            tick,
            metrics,
            health,
        }
    }

    /// Follows the watch until it ends; then takes everything off.
    pub(super) fn run(mut self, changes: &Receiver<Vec<Observed>>) {
        let mut desired = Vec::new();
        loop {
            let pause = self.next_attempt();
            match changes.recv_timeout(pause) {
                Ok(newer) => desired = newer,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // Only the latest word counts.
            while let Ok(newer) = changes.try_recv() {
                desired = newer;
            }
            self.reconcile(&desired);
            self.health.set_ready();
        }
        let all: Vec<_> = self.attached.keys().copied().collect();
        self.detach(&all);
    }

    fn reconcile(&mut self, desired: &[Observed]) {
        let plan = plan(desired, &self.attached, |attached| &attached.observed);
        // First off, then on: an interface that was renumbered is to be counted once.
        self.detach(&plan.detach);
        for observed in &plan.update {
            if let Some(attached) = self.attached.get_mut(&observed.key) {
                attached.observed = (*observed).clone();
                attached.attachment.netns = observed.interface.netns.clone();
                let _ = self.tick.send(Event::Rename(attached.number, Arc::new(Subject::new(observed))));
            }
        }
        self.failed.retain(|key, _| plan.attach.iter().any(|observed| observed.key == *key));
        let now = Instant::now();
        for observed in &plan.attach {
            if self.failed.get(&observed.key).is_none_or(|failed| failed.again <= now) {
                self.attach(observed);
            }
        }
        self.metrics.interfaces(self.attached.len(), self.failed.len());
    }

    fn attach(&mut self, observed: &Observed) {
        let interface = &observed.interface;
        match self.try_attach(observed) {
            Ok(attached) => {
                tracing::info!(
                    interface = &*interface.name,
                    mac = ?interface.mac,
                    netns = %interface.netns.path.display(),
                    hook = attached.attachment.ingress().as_str(),
                    "observing an interface"
                );
                let hook = attached.attachment.ingress();
                let _ = self.tick.send(Event::Attached(attached.number, hook));
                self.failed.remove(&observed.key);
                self.attached.insert(observed.key, attached);
            }
            // It went while we came: the watch will say so.
            Err(KernelError::NamespaceGone { .. } | KernelError::InterfaceGone(_)) => {}
            Err(error) => {
                let attempts = self.failed.get(&observed.key).map_or(0, |failed| failed.attempts);
                let pause = PAUSES[1].min(PAUSES[0] * 2_u32.saturating_pow(attempts));
                if attempts == 0 {
                    tracing::error!(
                        interface = &*interface.name,
                        netns = %interface.netns.path.display(),
                        %error,
                        "an interface cannot be observed; trying again"
                    );
                }
                self.metrics.attach_failed();
                let failed = Failed { attempts: attempts.saturating_add(1), again: Instant::now() + pause };
                self.failed.insert(observed.key, failed);
            }
        }
    }

    fn try_attach(&mut self, observed: &Observed) -> Result<Attached, KernelError> {
        let interface = &observed.interface;
        let mut plan = None;
        if let Some(wish) = self.xdp {
            match xdp::plan(wish, &interface.netns, interface.ifindex, interface.ethernet)? {
                Ok(it) => plan = Some(it),
                Err(refusal) => self.xdp_refused(observed, &refusal),
            }
        }
        let number = self.numbers.take()?;
        let programs = match plan {
            Some(plan) => self.loader.load_xdp(number.get(), plan),
            None => self.loader.load(number.get(), interface.ethernet),
        }
        .inspect_err(|_| self.numbers.free.push(number))?;
        // The tick must know the number before the first packet is counted under it.
        let _ = self.tick.send(Event::Register(number, observed.key, Arc::new(Subject::new(observed))));
        let (attachment, refusal) =
            Attachment::attach(programs, self.hook, interface.netns.clone(), interface.ifindex)
                .inspect_err(|_| drop(self.tick.send(Event::Retire(number))))?;
        if let Some(refusal) = refusal {
            self.xdp_refused(observed, &refusal);
        }
        self.watch_drops(observed, |watchlist, key| watchlist.add(key.netns, key.ifindex, number));
        Ok(Attached { observed: observed.clone(), number, attachment })
    }

    fn xdp_refused(&self, observed: &Observed, refusal: &Refusal) {
        tracing::warn!(
            interface = &*observed.interface.name,
            netns = %observed.interface.netns.path.display(),
            "packets towards the task are counted at TC: {refusal}"
        );
        self.metrics.xdp_refused(refusal.reason());
    }

    /// Drops are watched while the hooks are on: the ones of packets that no hook has counted would be taken from others.
    fn watch_drops(
        &mut self,
        observed: &Observed,
        change: impl FnOnce(&mut Watchlist, &InterfaceKey) -> Result<(), KernelError>,
    ) {
        let changed = self.watchlist.as_mut().map_or(Ok(()), |watchlist| change(watchlist, &observed.key));
        if let Err(error) = changed {
            let interface = &*observed.interface.name;
            tracing::warn!(interface, %error, "whether drops of an interface are watched could not be changed");
        }
    }

    fn detach(&mut self, keys: &[InterfaceKey]) {
        let mut qdiscs = Vec::new();
        let mut leaving: Vec<_> = keys.iter().filter_map(|key| self.attached.remove(key)).collect();
        let mut xdp = false;
        for attached in &mut leaving {
            self.watch_drops(&attached.observed, |watchlist, key| watchlist.remove(key.netns, key.ifindex));
            xdp |= attached.attachment.detach_xdp();
        }
        if xdp && let Err(error) = self.grace.wait() {
            tracing::warn!(%error, "the last super-packets may be counted as one packet each");
        }
        for attached in leaving {
            let interface = &attached.observed.interface;
            match attached.attachment.detach() {
                Ok(qdisc) => qdiscs.extend(qdisc),
                Err(error) => {
                    tracing::warn!(interface = &*interface.name, %error, "the programs could not be taken off");
                }
            }
            tracing::info!(
                interface = &*interface.name,
                mac = ?interface.mac,
                netns = %interface.netns.path.display(),
                "no longer observing an interface"
            );
            // Whatever they counted is in the maps now, and the next drain brings it.
            let _ = self.tick.send(Event::Retire(attached.number));
        }
        remove_quiet(&qdiscs);
    }

    /// When the next failed interface is due.
    fn next_attempt(&self) -> Duration {
        let next = self.failed.values().map(|failed| failed.again).min();
        next.map_or(Duration::from_hours(1), |next| next.saturating_duration_since(Instant::now()))
    }
}

/// Numbers of interfaces. One is given again only after the tick has recorded all that was counted under it.
#[derive(Debug)]
struct Numbers {
    last: u16,
    next: u16,
    free: Vec<InterfaceNumber>,
    freed: Receiver<InterfaceNumber>,
}

impl Numbers {
    fn take(&mut self) -> Result<InterfaceNumber, KernelError> {
        self.free.extend(self.freed.try_iter());
        if let Some(number) = self.free.pop() {
            return Ok(number);
        }
        if self.next > self.last {
            return Err(KernelError::TooManyInterfaces(self.last));
        }
        self.next += 1;
        Ok(InterfaceNumber::new(self.next - 1))
    }
}
