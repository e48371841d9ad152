//! Work inside the network namespace of an interface.

use std::io;

use super::KernelError;
use crate::linux::netns::Netns;

/// Runs `work` inside a namespace, which may be the daemon's own.
///
/// Fails with [`KernelError::NamespaceGone`] if the namespace no longer exists.
pub(super) fn inside<T: Send>(
    netns: &Netns,
    work: impl FnOnce() -> T + Send,
) -> Result<T, KernelError> {
    netns.inside(work).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            KernelError::NamespaceGone { inode: netns.inode, path: netns.path.clone() }
        }
        _ => {
            KernelError::call(format!("entering network namespace {}", netns.path.display()), error)
        }
    })
}
