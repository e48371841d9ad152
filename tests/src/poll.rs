//! Waiting for a condition, never for a time.

use std::{
    env,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

/// How long anything may take on a busy machine before it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A limit of time as it is on this machine: `OBSERVER_TESTS_SLOWNESS` times as long, a whole number, 1 unless given.
pub fn stretched(limit: Duration) -> Duration {
    static SLOWNESS: LazyLock<u32> = LazyLock::new(|| {
        let given = env::var("OBSERVER_TESTS_SLOWNESS").ok();
        given.and_then(|number| number.parse().ok()).unwrap_or(1)
    });
    limit * *SLOWNESS
}

/// Calls `attempt` until it gives a value; an error of it ends the wait at once. `patience` is [`stretched`].
pub fn until<T>(what: &str, patience: Duration, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (patience, start) = (stretched(patience), Instant::now());
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
