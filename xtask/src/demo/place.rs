//! The demo's private folder. Its contents and all mounts are visible to this process and its
//! children only.
//!
//! The private mount namespace removes all mounts when the process ends, even if it is killed; the
//! tmpfs on the folder removes all files. A killed demo leaves one empty folder, which the next
//! demo removes.

use std::{
    fs::{self, DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process,
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// Only root writes here, so the folder's name cannot be taken by another user.
const PARENT: &str = "/run";
const PREFIX: &str = "observer-demo-";

#[derive(Debug)]
pub(super) struct Place {
    root: PathBuf,
    /// Locked as long as this process lives: the next demo removes folders whose lock is free.
    _alive: File,
}

impl Place {
    /// Makes the folder. Call it before any thread starts: a thread keeps the mount namespace that
    /// it started in.
    pub(super) fn make() -> Result<Self> {
        unshare(CloneFlags::CLONE_NEWNS).context(
            "a mount namespace of its own; in a container the demo needs all privileges",
        )?;
        // Unmounts on the host still propagate here, so that none of its file systems stay busy;
        // nothing propagates back.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
            .context("keeping mounts to ourselves")?;
        remove_leftovers(Path::new(PARENT));

        let root = Path::new(PARENT).join(format!("{PREFIX}{}", process::id()));
        let making = || format!("making {}", root.display());
        DirBuilder::new().mode(0o700).create(&root).with_context(making)?;
        let alive = File::open(&root)
            .and_then(|folder| folder.try_lock().map(|()| folder).map_err(Into::into));
        let place = Self { _alive: alive.with_context(making)?, root };
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("tmpfs"), &place.root, Some("tmpfs"), flags, Some("mode=0700"))
            .context("mounting a tmpfs")?;
        Ok(place)
    }

    /// A path inside.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Makes a folder inside.
    pub(super) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.path(name);
        fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Also detaches all mounts below it.
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.root);
    }
}

/// Removes the empty folders of demos that were killed.
fn remove_leftovers(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_ours && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_that_nobody_holds_are_leftovers() {
        let parent = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let folder = parent.path().join(name);
            fs::create_dir(&folder).unwrap();
            folder
        };
        let (dead, alive, other) =
            (make("observer-demo-1"), make("observer-demo-2"), make("other"));
        let held = File::open(&alive).unwrap();
        held.lock().unwrap();
        remove_leftovers(parent.path());
        assert!(!dead.exists());
        assert!(alive.exists());
        assert!(other.exists());
    }
}
