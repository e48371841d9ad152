//! The log on standard error. It never blocks.
//!
//! If nobody reads standard error (a hanging log driver, a stopped terminal), a write would block
//! the daemon. A line is therefore written only if there is room for it. Other lines are dropped,
//! and the next written line reports their number.

use std::{
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use clap::ValueEnum;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};
use serde::Serialize;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

/// Values of `--log-level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the levels of every logger")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Starts logging to standard error.
pub fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // The program loader logs hundreds of debug lines for each load, which would hide the daemon's
    // own. The programs log as `observer_ebpf`.
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::INFO) };
    let targets = Targets::new().with_default(libraries).with_target("observer", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Stderr)
        .with_target(false)
        .with_ansi(false)
        // The layer would report its errors on standard error, and panic if that fails.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(targets).with(lines).init();
}

/// Writes a line to standard error, if there is room for it.
pub fn line(text: &str) {
    // There is no other place to report an error of standard error.
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

/// Bytes that a pipe with room accepts at once: one page (pipe(7), `PIPE_BUF`).
const PIECE: usize = 4096;
/// Milliseconds to wait for a busy reader.
const PATIENCE: u16 = 100;

/// Number of lines dropped since the last written line.
static DROPPED: Mutex<u64> = Mutex::new(0);

/// Standard error.
#[derive(Clone, Copy, Debug)]
struct Stderr;

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut dropped = DROPPED.lock().unwrap_or_else(PoisonError::into_inner);
        // No second wait for a reader that did not read before.
        if !has_room(if *dropped == 0 { PATIENCE } else { 0 }) {
            *dropped += 1;
            return Ok(line.len());
        }
        if *dropped > 0 {
            let notice = format!("{dropped} lines of this log were dropped: standard error was not read\n");
            *dropped = 0;
            unistd::write(io::stderr(), notice.as_bytes())?;
        }
        for piece in line.chunks(PIECE) {
            if !has_room(PATIENCE) {
                *dropped += 1;
                break;
            }
            unistd::write(io::stderr(), piece)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// True if a write of one piece would return at once.
fn has_room(patience_ms: u16) -> bool {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // On a closed descriptor or after an error, a write returns at once too.
    !matches!(poll(&mut ready, PollTimeout::from(patience_ms)), Ok(0))
}

/// The last failure in the log, so that a repeated failure is logged once. Failures are compared by
/// kind, because their texts may differ each time.
#[derive(Debug)]
pub struct Logged<K>(Option<K>);

impl<K> Default for Logged<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq> Logged<K> {
    /// Records a failure of this kind. Returns true if it should be logged.
    pub fn is_new(&mut self, kind: K) -> bool {
        let is_new = self.0.as_ref() != Some(&kind);
        self.0 = Some(kind);
        is_new
    }

    /// Records a success. Returns true if there was a failure before.
    pub fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_lasts_is_logged_once() {
        let mut logged = Logged::default();
        assert!(logged.is_new("timeout") && !logged.is_new("timeout") && logged.is_new("refused"));
        assert!(logged.clear() && !logged.clear() && logged.is_new("refused"));
    }
}
