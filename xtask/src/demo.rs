//! `demo`: the daemon at work on this host.

use anyhow::{Result, bail};

use crate::paths::Paths;

/// Called with the daemon built and `ip` at hand.
pub(crate) fn run(_paths: &Paths) -> Result<()> {
    bail!("the demo is not built yet")
}
