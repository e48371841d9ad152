//! Liveness and readiness of the daemon.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

/// State behind `/healthz` and `/readyz`.
#[derive(Debug, Default)]
pub struct Health {
    /// UNIX milliseconds of the last tick.
    last_tick_ms: AtomicI64,
    ready: AtomicBool,
    /// One line for each interface that should be observed and is not.
    unobserved: Mutex<Vec<String>>,
}

/// Milliseconds without a tick after which the daemon counts as stuck. Ticks come every second.
const STALE_MS: i64 = 10_000;

impl Health {
    /// Records a tick.
    pub fn ticked(&self, unix_ms: i64) {
        self.last_tick_ms.store(unix_ms, Ordering::Relaxed);
    }

    /// Marks the end of the first attempt to attach to all interfaces.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// True if a tick came recently.
    pub fn is_live(&self, unix_ms: i64) -> bool {
        unix_ms - self.last_tick_ms.load(Ordering::Relaxed) < STALE_MS
    }

    /// Sets the interfaces that should be observed and are not, one line each.
    pub fn set_unobserved(&self, lines: Vec<String>) {
        *self.unobserved.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// Succeeds if the first attempt is over and every interface is observed. The error lists the
    /// reasons.
    pub fn readiness(&self) -> Result<(), Vec<String>> {
        if !self.ready.load(Ordering::Relaxed) {
            return Err(vec!["attaching".into()]);
        }
        let lines = self.unobserved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if lines.is_empty() { Ok(()) } else { Err(lines) }
    }
}
