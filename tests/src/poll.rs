//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long anything may take on a busy machine before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Calls `attempt` until it gives a value; an error of it ends the wait at once.
pub fn until<T>(what: &str, patience: Duration, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        if start.elapsed() > patience {
            bail!("waited {patience:?} in vain until {what}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// [`until`] for a condition.
pub fn until_true(what: &str, patience: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, patience, || Ok(condition()?.then_some(())))
}
