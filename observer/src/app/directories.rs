//! The state directory of the daemon.

use std::{fs, io, path::Path};

use nix::fcntl::{Flock, FlockArg};

use crate::{failure::Failure, linux::access::Access};

/// Locks the state directory, so that only one daemon uses it.
pub(super) fn lock(state_dir: &Path) -> Result<Flock<fs::File>, Failure> {
    let failed = |error: io::Error| {
        Failure::usage(format!(
            "state directory {}: {error}: give one that can be written with --state-dir",
            state_dir.display()
        ))
    };
    Access::PRIVATE.create_folder(state_dir).map_err(failed)?;
    let file = Access::PRIVATE.rewrite_file(&state_dir.join("lock")).map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => Failure::usage(format!(
            "another observer runs with the state directory {}: stop it, or give another with --state-dir",
            state_dir.display()
        )),
        errno => failed(errno.into()),
    })
}
