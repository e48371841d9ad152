//! The log on standard error, which holds up nobody.
//!
//! A standard error that nobody reads (a log driver that hangs, a terminal that was stopped) would block whoever writes to
//! it. So a line is written only where there is room for it; lines that find none are dropped, and the next line that is
//! written says how many.

use std::{
    io::{self, Write},
    os::fd::AsFd as _,
    sync::{Mutex, PoisonError},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd,
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::cli::LogLevel;

/// Starts logging to standard error.
pub fn start(level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // For each load of programs the loader logs hundreds of lines at debug, among which ours would not be found. The
    // programs log as `observer_ebpf`.
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::INFO) };
    let targets = Targets::new().with_default(libraries).with_target("observer", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(Stderr)
        .with_target(false)
        .with_ansi(false)
        // It would report them on standard error, and panic where that cannot be written.
        .log_internal_errors(false);
    tracing_subscriber::registry().with(targets).with(lines).init();
}

/// Writes one line to standard error, if there is room for it.
pub fn line(text: &str) {
    // Standard error has no other place to report its own errors.
    let _ = Stderr.write_all(format!("{text}\n").as_bytes());
}

/// As much as a pipe with room takes at once: one page (pipe(7), `PIPE_BUF`).
const PIECE: usize = 4096;
/// A reader may be busy for a moment. Milliseconds.
const PATIENCE: u16 = 100;

/// Lines that found no room since the last one that did.
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
        // Who did not read before is not waited for again.
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

/// Whether a write of a piece would return at once.
fn has_room(patience_ms: u16) -> bool {
    let stderr = io::stderr();
    let mut ready = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    // Where it is closed, or has an error, a write returns at once too.
    !matches!(poll(&mut ready, PollTimeout::from(patience_ms)), Ok(0))
}

/// The failure that the log has: one that is met again and again is logged once, whatever differs in its text. So a failure
/// is known by its kind, never by what it says.
#[derive(Debug)]
pub struct Logged<K>(Option<K>);

impl<K> Default for Logged<K> {
    fn default() -> Self {
        Self(None)
    }
}

impl<K: PartialEq> Logged<K> {
    /// Notes a failure of this kind; whether the log is to have it.
    pub fn is_new(&mut self, kind: K) -> bool {
        let is_new = self.0.as_ref() != Some(&kind);
        self.0 = Some(kind);
        is_new
    }

    /// Notes a success; whether there was a failure before.
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
