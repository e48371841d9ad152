//! The compiler and the linker of the eBPF programs: found on this machine, or installed.

use anyhow::Result;

use crate::{linker, lock, paths::Paths, toolchain::BpfToolchain};

/// The number of steps that [`bring`] takes.
pub(crate) fn steps(paths: &Paths) -> usize {
    match BpfToolchain::found(paths) {
        Some(toolchain) => usize::from(linker::found(paths, toolchain).is_none()),
        None => 2,
    }
}

/// Installs the compiler and the linker if one of them is missing; prints nothing if both are
/// present.
pub(crate) fn bring(paths: &Paths) -> Result<BpfToolchain> {
    if let Some(ready) = found(paths) {
        return Ok(ready);
    }
    let _lock = lock::acquire(paths)?;
    let toolchain = match BpfToolchain::found(paths) {
        Some(toolchain) => toolchain,
        None => BpfToolchain::install(paths)?,
    };
    if linker::found(paths, toolchain).is_none() {
        linker::install(paths, toolchain)?;
    }
    Ok(toolchain)
}

fn found(paths: &Paths) -> Option<BpfToolchain> {
    BpfToolchain::found(paths).filter(|toolchain| linker::found(paths, *toolchain).is_some())
}
