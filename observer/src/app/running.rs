//! The daemon's threads, and their stop: one after the other, each within its part of the time that
//! a stop may take.

use std::{fs, sync::mpsc::Sender, thread, time::Duration};

use nix::fcntl::Flock;
use tokio::runtime::Runtime;

use super::{
    signals::Signals,
    tick::{Message, TickError},
};
use crate::{
    failure::Failure,
    kernel::{OnStop, bpffs::PinDirectory},
    sink::Delivery,
    tasks::WatchHandle,
    worker::{Deadline, Worker, WorkerError},
};

/// The running threads.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) leftovers: Option<Worker<()>>,
    pub(super) watch: WatchHandle,
    pub(super) interfaces: Worker<()>,
    pub(super) tick: Worker<Result<(), TickError>>,
    pub(super) events: Sender<Message>,
    pub(super) delivery: Option<Delivery>,
}

/// Resources that the daemon holds until its threads have ended.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) signals: Signals,
    pub(super) runtime: Runtime,
    pub(super) stop_timeout: Duration,
    pub(super) pins: PinDirectory,
    pub(super) on_stop: OnStop,
    pub(super) lock: Flock<fs::File>,
}

/// Deadlines of the steps of a stop, in percent of `--stop-timeout`. Time that a step does not use
/// is left for the next one.
const WATCH: u32 = 15;
const INTERFACES: u32 = 50;
const OUTPUTS: u32 = 80;
const TICK: u32 = 85;
/// Time after a deadline for the thread to report unfinished work.
const GRACE: Duration = Duration::from_secs(1);

impl Running {
    /// True if a thread has ended without which the daemon cannot continue.
    fn has_ended(&self) -> bool {
        self.tick.is_finished() || self.interfaces.is_finished()
    }

    /// Waits for a signal that stops the daemon, or until it cannot continue. Then stops it.
    pub(super) fn until_stopped(self, held: Held) -> Result<(), Failure> {
        let Held { mut signals, runtime, stop_timeout, pins, on_stop, lock } = held;
        let signal = runtime.block_on(signals.stop(|| self.has_ended()));
        let deadline = Deadline::after(stop_timeout);
        exit_after(&deadline);
        runtime.spawn(signals.hurry(deadline.clone()));
        tracing::info!(signal, "stopping");
        let result = self.stop(&deadline);
        runtime.shutdown_background();
        match on_stop {
            OnStop::Keep => pins.keep(),
            OnStop::Detach => pins.remove_all(),
        }
        drop(lock);
        result
    }

    /// Stops all threads. Returns the first failure, and logs the others.
    fn stop(self, deadline: &Deadline) -> Result<(), Failure> {
        let Self { leftovers, watch, interfaces, tick, events, delivery } = self;
        let mut failures = Failures::default();
        if let Err(error) = watch.stop(&deadline.percent(WATCH)) {
            // The watch may wait for the kernel, which is changing an interface. No counts depend
            // on it.
            tracing::warn!("the search for new interfaces did not end in time: {error}");
        }
        failures.note(
            "programs may stay on interfaces until the next start",
            interfaces.join(&deadline.percent(INTERFACES)),
        );
        // Whatever the results so far, everything that was counted is recorded.
        let _ = events.send(Message::Stop(deadline.percent(OUTPUTS)));
        match tick.join(&deadline.percent(TICK).later(GRACE)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.add(error.to_string()),
            Err(error) => failures.add(format!("the last records may not be written: {error}")),
        }
        if let Some(leftovers) = leftovers {
            let late = "files of an earlier run are not recovered; the next start recovers them";
            failures.note(late, leftovers.join(deadline));
        }
        if let Some(delivery) = delivery {
            let late = "files are not delivered; the next start delivers them";
            failures.note(late, delivery.stop(deadline, GRACE));
        }
        failures.first.map_or(Ok(()), |first| Err(Failure::running(first)))
    }
}

#[derive(Debug, Default)]
struct Failures {
    first: Option<String>,
}

impl Failures {
    fn note(&mut self, consequence: &str, ended: Result<(), WorkerError>) {
        if let Err(error) = ended {
            self.add(format!("{consequence}: {error}"));
        }
    }

    fn add(&mut self, failure: String) {
        if self.first.is_none() {
            self.first = Some(failure);
        } else {
            tracing::error!("{failure}");
        }
    }
}

/// Exits the process some time after the deadline, even if threads hang.
fn exit_after(deadline: &Deadline) {
    let deadline = deadline.clone();
    let end = move || {
        deadline.sleep();
        // Time to report unfinished work.
        thread::sleep(2 * GRACE);
        // SAFETY: ends the process without handlers and destructors, which may be what is stuck.
        unsafe { libc::_exit(1) }
    };
    if let Err(error) = thread::Builder::new().name("deadline".into()).spawn(end) {
        tracing::warn!(%error, "the stop has no deadline");
    }
}
