//! Waiting for conditions instead of fixed times.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::stalls;

/// Timeout of any wait on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A timeout multiplied by `OBSERVER_TESTS_SLOWNESS`, an integer (default 1).
pub fn stretched(limit: Duration) -> Duration {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        let given = env::var("OBSERVER_TESTS_SLOWNESS").ok();
        given.and_then(|number| number.parse().ok()).unwrap_or(1)
    });
    limit * *SLOWNESS
}

/// Calls `attempt` until it returns a value. An error ends the wait at once. `patience` is
/// [`stretched`].
pub fn until<T>(
    what: &str,
    patience: Duration,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let (patience, start) = (stretched(patience), Instant::now());
    loop {
        if let Some(value) = attempt().with_context(|| format!("while waiting until {what}"))? {
            return Ok(value);
        }
        if start.elapsed() > patience {
            bail!("waited {patience:?} in vain until {what}\n{}", stalls::blocked());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// [`until`], for a boolean condition.
pub fn until_true(
    what: &str,
    patience: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, patience, || Ok(condition()?.then_some(())))
}
