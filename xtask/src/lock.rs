//! The lock that lets one set-up at a time write below `<target>/toolchain`.

use std::fs::{self, File};

use anyhow::{Context as _, Result};

use crate::paths::Paths;

/// Waits until no other set-up runs. The lock is released when the returned file is dropped.
pub(crate) fn acquire(paths: &Paths) -> Result<File> {
    let folder = paths.toolchain();
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = File::create(folder.join(".lock"))?;
    if file.try_lock().is_err() {
        println!("waiting for another set-up …");
        file.lock()?;
    }
    Ok(file)
}
