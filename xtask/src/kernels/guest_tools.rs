//! Programs from Debian packages that only a guest needs, unpacked below `<target>/kernels/tools`.

use std::path::PathBuf;

use crate::paths::Paths;

/// The root of the unpacked packages.
pub(super) fn tree(paths: &Paths) -> PathBuf {
    paths.kernels().join("tools")
}

/// The static busybox: a shell and a hundred programs in one file.
pub(super) fn busybox(paths: &Paths) -> PathBuf {
    let tree = tree(paths);
    let program = tree.join("usr/bin/busybox");
    if program.is_file() { program } else { tree.join("bin/busybox") }
}
