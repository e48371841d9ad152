//! The effect of each signal on the daemon, as [`SIGNALS`](crate::cli::SIGNALS) has it.

use std::{io, time::Duration};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::worker::Deadline;

/// A signal, by its kind and its name.
type Named = (fn() -> SignalKind, &'static str);

/// Signals that end nothing, and are logged.
const NOTED: [Named; 4] = [
    (SignalKind::hangup, "SIGHUP"),
    (SignalKind::user_defined1, "SIGUSR1"),
    (SignalKind::user_defined2, "SIGUSR2"),
    (SignalKind::alarm, "SIGALRM"),
];

/// The signals that stop the daemon.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// From now on no signal ends the process unasked but those that mean to (KILL, ABRT and the
    /// like).
    pub(super) fn listen(runtime: &Runtime) -> io::Result<Self> {
        let _inside = runtime.enter();
        for (kind, name) in NOTED {
            let mut received = signal(kind())?;
            runtime.spawn(async move {
                while received.recv().await.is_some() {
                    tracing::info!(
                        signal = name,
                        "a signal that changes nothing: files rotate by themselves, sources are followed, settings are \
                         read at the start"
                    );
                }
            });
        }
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn any(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }

    /// Waits for a signal that stops the daemon, or until it cannot go on. `None` in the second
    /// case.
    pub(super) async fn stop(&mut self, has_ended: impl Fn() -> bool) -> Option<&'static str> {
        let ended = async {
            while !has_ended() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::select! {
            signal = self.any() => Some(signal),
            () = ended => None,
        }
    }

    /// A further signal ends the wait for whatever is slow.
    pub(super) async fn hurry(mut self, deadline: Deadline) {
        let signal = self.any().await;
        // First what it asks for: the log may be what is slow.
        deadline.expire();
        tracing::warn!(signal, "a second signal: what is not done is left undone");
    }
}
