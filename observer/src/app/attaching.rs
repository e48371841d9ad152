//! Attachment of programs to new interfaces.

use std::{
    panic,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Instant,
};

use super::{
    attached::{Attached, Begun, Done, Loaded, pause_after},
    detached::Restored,
    interfaces::{Failed, Interfaces},
    numbers::Numbers,
};
use crate::{
    accounts::Event,
    flow::InterfaceNumber,
    kernel::{KernelError, LinkPins, Programs, xdp},
    tasks::{Interface, Observed},
};

impl Interfaces {
    /// Attaches programs to several interfaces at the same time. The kernel attaches one program
    /// after the other, and waits for a grace period each time. In parallel, all interfaces queue
    /// for their first direction before any of them queues for its second.
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
                // `None` if the system cannot start another thread.
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

    /// Records the result of an attempt.
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
            // The interface has disappeared in the meantime. The watch reports that, and then it
            // counts as missed.
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

    /// Loads the programs of an interface, and registers its number with the tick thread.
    fn begin(&mut self, observed: &Observed) -> Result<Begun, KernelError> {
        let taken_over = self.take_over.number_of(observed);
        let result = self.load(observed, taken_over);
        if let (Err(_), Some(number)) = (&result, taken_over) {
            // The next attempt is under another number.
            let _ = self.tick.send(Event::Retire { number }.into());
        }
        let (number, programs, loaded) = result?;
        // The tick thread must know the number before the first packet is counted under it.
        let _ = self.tick.send(Event::register(number, observed).into());
        let pins = LinkPins::new(&self.links, (number, taken_over.is_some()), self.handle);
        Ok(Begun { number, programs, loaded, pins, tick: self.tick.clone() })
    }

    /// Loads the programs of an interface, under the number of an earlier run or a new one.
    fn load(
        &mut self,
        observed: &Observed,
        taken_over: Option<InterfaceNumber>,
    ) -> Result<(InterfaceNumber, Programs, Loaded), KernelError> {
        let interface = &observed.interface;
        let earlier = taken_over
            .map(|number| LinkPins::new(&self.links, (number, true), self.handle))
            .and_then(|pins| pins.xdp_program());
        let mut plan = None;
        if let Some(wish) = self.xdp {
            let Interface { netns, ifindex, ethernet, .. } = interface;
            match xdp::plan(wish, netns, *ifindex, *ethernet, earlier)? {
                Ok(it) => plan = Some(it),
                Err(refusal) => self.xdp_refused(observed, &refusal),
            }
        }
        let shared = self.report_senders && interface.on_host;
        let loaded = Loaded { ethernet: interface.ethernet, shared, xdp: plan };
        let (number, programs) = match taken_over {
            Some(number) => (number, loaded.load(&mut self.spares.loader(), number)?),
            None => self.programs(loaded)?,
        };
        Ok((number, programs, loaded))
    }

    /// Starts watching an interface whose programs were attached: its drops, its programs and its
    /// counters.
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

    /// Returns loaded programs, with a number under which nothing is counted yet.
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
            // The last numbers may belong to spare programs.
            Err(error) => self.spares.take().ok_or(error)?.0,
        };
        let programs = wanted.load(&mut self.spares.loader(), number);
        spare(number, &mut self.numbers, programs)
    }

    /// Loads spare programs for future interfaces.
    pub(super) fn prepare(&mut self) {
        while self.spares.count() < self.spares_wanted()
            && let Ok(number) = self.numbers.take()
        {
            self.spares.prepare(number);
        }
    }

    /// Number of spares to keep loaded; 0 for XDP, because its programs depend on the interface.
    const fn spares_wanted(&self) -> usize {
        if self.xdp.is_some() { 0 } else { self.at_once }
    }
}
