//! Signals that stop the demo, and waits that they interrupt. Between two waits they stay pending,
//! so that none arrives between making something and recording that it must be removed.

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

/// Stop signals: Ctrl-C, `kill`, and a closed terminal.
const STOPPING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
/// Milliseconds between two checks of a condition.
const PAUSE: u16 = 20;

#[derive(Debug)]
pub(super) struct Signals {
    pending: SignalFd,
    caught: Cell<Option<Signal>>,
}

impl Signals {
    /// Blocks the signals. Call it before any thread starts: threads inherit the mask.
    pub(super) fn block() -> Result<Self> {
        let stopping: SigSet = STOPPING.into_iter().collect();
        stopping.thread_block().context("blocking signals")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let pending = SignalFd::with_flags(&stopping, flags).context("listening to signals")?;
        Ok(Self { pending, caught: Cell::new(None) })
    }

    /// Calls `attempt` until it returns a value. Its error, a signal or the deadline ends the wait.
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

    /// True once a signal has come.
    pub(super) fn caught(&self) -> bool {
        if let Ok(Some(info)) = self.pending.read_signal() {
            self.caught.set(Signal::try_from(info.ssi_signo as i32).ok());
        }
        self.caught.get().is_some()
    }

    /// Ends this process by the signal that came, so that shells and sudo see the reason.
    pub(super) fn die(&self) -> ! {
        let signal = self.caught.get().unwrap_or(Signal::SIGTERM);
        let _ = SigSet::from(signal).thread_unblock();
        let _ = raise(signal);
        // The signal is ignored: the parent process set that.
        process::exit(128 + signal as i32)
    }
}
