//! Signals that ask the demo to stop, and waiting that hears them. Between two waits they are merely pending, so none
//! can come between making something and noting that it is to be removed.

use std::{
    cell::Cell,
    os::fd::AsFd as _,
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, poll},
    sys::{
        signal::{SigSet, Signal, raise},
        signalfd::{SfdFlags, SignalFd},
    },
};

/// Signals that whoever runs us sends: Ctrl-C, `kill`, a terminal that is closed.
const STOPPING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// Between two looks at a condition, in milliseconds.
const PAUSE: u16 = 20;

#[derive(Debug)]
pub(super) struct Signals {
    pending: SignalFd,
    caught: Cell<Option<Signal>>,
}

impl Signals {
    /// To be called before any thread starts: threads inherit what is blocked.
    pub(super) fn block() -> Result<Self> {
        let stopping: SigSet = STOPPING.into_iter().collect();
        stopping.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let pending = SignalFd::with_flags(&stopping, flags).context("listening to signals")?;
        Ok(Self { pending, caught: Cell::new(None) })
    }

    /// Calls `attempt` until it gives a value. An error of it, a signal or the deadline ends the wait.
    pub(super) fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut attempt: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(value) = attempt()? {
                return Ok(value);
            }
            if Instant::now() > deadline {
                bail!("waited {} s in vain until {what}", patience.as_secs());
            }
            self.pause()?;
        }
    }

    fn pause(&self) -> Result<()> {
        poll(&mut [PollFd::new(self.pending.as_fd(), PollFlags::POLLIN)], PAUSE)?;
        if self.caught() {
            bail!("a signal came");
        }
        Ok(())
    }

    /// Whether a signal has come.
    pub(super) fn caught(&self) -> bool {
        if let Ok(Some(info)) = self.pending.read_signal() {
            self.caught.set(Signal::try_from(info.ssi_signo as i32).ok());
        }
        self.caught.get().is_some()
    }

    /// Ends this process by the signal that came, so that shells and sudo see what ended it.
    pub(super) fn die(&self) -> ! {
        let signal = self.caught.get().unwrap_or(Signal::SIGTERM);
        let _ = SigSet::from(signal).thread_unblock();
        let _ = raise(signal);
        // Whoever started us has it ignored.
        process::exit(128 + signal as i32)
    }
}
