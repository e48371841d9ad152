//! Attaching the programs to new interfaces.

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use super::{
    absent::Restored,
    attached::{Attached, Begun, Done, Loaded, pause_after},
    interfaces::{Failed, Interfaces},
    numbers::Numbers,
};
use crate::{
    accounts::Event,
    flow::InterfaceNumber,
    kernel::{KernelError, Programs, xdp},
    tasks::Observed,
};

impl Interfaces {
    /// Attaches these at the same time: the kernel attaches one after the other and waits for a
    /// grace period each time, but all of them queue for their first direction before any does for
    /// its second.
    pub(super) fn attach(&mut self, together: &[&Observed]) {
        let (hook, ledgers, metrics) =
            (self.hook, Arc::clone(&self.ledgers), Arc::clone(&self.metrics));
        let (ledgers, metrics) = (&*ledgers, &*metrics);
        let begun: Vec<_> = together.iter().map(|_| Mutex::new(None)).collect();
        let attach = |observed: &Observed, begun: &Mutex<Option<Result<Begun, KernelError>>>| {
            let begun = begun.lock().unwrap_or_else(PoisonError::into_inner).take();
            Some(begun?.and_then(|begun| begun.attach(observed, hook, ledgers, metrics)))
        };
        let done: Vec<_> = thread::scope(|scope| {
            let mut started = Vec::new();
            for (observed, begun) in together.iter().zip(&begun) {
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.begin(observed));
                let thread = thread::Builder::new().name("attach".into());
                // `None` where the system has no thread to give.
                let thread = thread.spawn_scoped(scope, move || attach(observed, begun)).ok();
                started.push((*observed, begun, thread));
            }
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
            };
            let done = started.into_iter().map(|(observed, begun, thread)| {
                (observed, thread.map_or_else(|| attach(observed, begun), join))
            });
            done.collect()
        });
        for (observed, done) in
            done.into_iter().filter_map(|(observed, done)| Some((observed, done?)))
        {
            let attached = done.map(|done| self.complete(observed, done));
            self.note(observed, attached);
        }
    }

    /// Keeps what came of an attempt.
    fn note(&mut self, observed: &Observed, attached: Result<Attached, KernelError>) {
        let interface = &observed.interface;
        match attached {
            Ok(attached) => {
                tracing::info!(
                    interface = &*interface.name,
                    mac = interface.mac.map(tracing::field::display),
                    netns = %interface.netns.path.display(),
                    hook = attached.attachment.ingress().as_str(),
                    "observing an interface"
                );
                self.failed.remove(&observed.key);
                self.attached.insert(observed.key, attached);
            }
            // It went while we came: the watch will say so, and that it was missed.
            Err(KernelError::NamespaceGone { .. } | KernelError::InterfaceGone(_)) => {}
            Err(error) => {
                let attempts = self.failed.get(&observed.key).map_or(0, |failed| failed.attempts);
                if attempts == 0 {
                    tracing::error!(
                        interface = &*interface.name,
                        netns = %interface.netns.path.display(),
                        %error,
                        "an interface cannot be observed; trying again"
                    );
                }
                self.metrics.attach_failed();
                let failed = Failed {
                    attempts: attempts.saturating_add(1),
                    again: Instant::now() + pause_after(attempts),
                    reason: error.to_string().into(),
                };
                self.failed.insert(observed.key, failed);
            }
        }
    }

    /// Has the programs of an interface ready, and the tick know its number.
    fn begin(&mut self, observed: &Observed) -> Result<Begun, KernelError> {
        let interface = &observed.interface;
        let mut plan = None;
        if let Some(wish) = self.xdp {
            match xdp::plan(wish, &interface.netns, interface.ifindex, interface.ethernet)? {
                Ok(it) => plan = Some(it),
                Err(refusal) => self.xdp_refused(observed, &refusal),
            }
        }
        let shared = self.tell_senders && interface.on_host;
        let loaded = Loaded { ethernet: interface.ethernet, shared, xdp: plan };
        let (number, programs) = self.programs(loaded)?;
        // The tick must know the number before the first packet is counted under it.
        let _ = self.tick.send(Event::register(number, observed).into());
        Ok(Begun { number, programs, loaded, tick: self.tick.clone() })
    }

    /// From now on the packets of an interface are counted.
    fn complete(&mut self, observed: &Observed, done: Done) -> Attached {
        let Done { number, attachment, loaded, refusal, reading } = done;
        if let Some(refusal) = refusal {
            self.xdp_refused(observed, &refusal);
        }
        self.watch_drops(observed, |watchlist, key| watchlist.add(key.netns, key.ifindex, number));
        self.witness.add(
            observed.key,
            &observed.interface,
            (number, attachment.presence()),
            reading.as_ref(),
        );
        Attached {
            observed: observed.clone(),
            number,
            attachment,
            loaded,
            restored: Restored::default(),
        }
    }

    /// Programs that nothing is counted under yet.
    fn programs(&mut self, wanted: Loaded) -> Result<(InterfaceNumber, Programs), KernelError> {
        let spare = |number, numbers: &mut Numbers, programs: Result<Programs, KernelError>| {
            programs.inspect_err(|_| numbers.give_back(number)).map(|programs| (number, programs))
        };
        if wanted.ethernet
            && !wanted.shared
            && wanted.xdp.is_none()
            && let Some((number, programs)) = self.spares.take()
        {
            return spare(number, &mut self.numbers, programs);
        }
        let number = match self.numbers.take() {
            Ok(number) => number,
            // The last numbers may be those of spares.
            Err(error) => self.spares.take().ok_or(error)?.0,
        };
        let programs = wanted.load(&mut self.spares.loader(), number);
        spare(number, &mut self.numbers, programs)
    }

    /// Has programs loaded for interfaces to come.
    pub(super) fn prepare(&mut self) {
        while self.spares.count() < self.spares_wanted()
            && let Ok(number) = self.numbers.take()
        {
            self.spares.prepare(number);
        }
    }

    /// None for XDP: what it loads depends on the interface.
    const fn spares_wanted(&self) -> usize {
        if self.xdp.is_some() { 0 } else { self.at_once }
    }
}
