//! Effects of signals on the daemon, as [`SIGNALS`](crate::cli::SIGNALS) documents them.

use std::{io, time::Duration};

use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::worker::Deadline;

/// A signal: its kind and its name.
type Named = (fn() -> SignalKind, &'static str);

/// Signals that are logged, and otherwise ignored.
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
    /// Installs the signal handlers. After that, only signals that always end a process do so
    /// (KILL, ABRT and the like).
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

    /// Waits for a signal that stops the daemon, or until `has_ended` returns true. Returns `None`
    /// in the second case.
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

    /// Ends the wait for slow threads at the next signal.
    pub(super) async fn hurry(mut self, deadline: Deadline) {
        let signal = self.any().await;
        // The deadline first, because the log may be the slow part.
        deadline.expire();
        tracing::warn!(signal, "a second signal: stopping at once, with unfinished work");
    }
}
