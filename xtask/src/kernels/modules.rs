//! Modules in a guest's file system. The kernel loads them on demand, as on any host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context as _, Result};

use super::kernel::Kernel;

/// Folders of modules that the tests may use; dependencies are added.
const FOLDERS: [&str; 2] = ["kernel/net/", "kernel/drivers/net/"];

/// Lists by which `modprobe` finds a module. Not every kernel has all of them.
pub(super) const LISTS: [&str; 3] = ["modules.dep", "modules.alias", "modules.builtin"];

/// Module files, relative to the kernel's module folder.
pub(super) fn of(kernel: &Kernel) -> Result<BTreeSet<String>> {
    let path = kernel.dependencies();
    let dependencies =
        fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    let all = wanted(&dependencies);
    Ok(all.into_iter().map(str::to_owned).collect())
}

fn wanted(dependencies: &str) -> BTreeSet<&str> {
    let lines: BTreeMap<&str, &str> =
        dependencies.lines().filter_map(|line| line.split_once(':')).collect();
    let mut pending: Vec<&str> = lines
        .keys()
        .copied()
        .filter(|file| FOLDERS.iter().any(|folder| file.starts_with(folder)))
        .collect();
    let mut wanted = BTreeSet::new();
    while let Some(file) = pending.pop() {
        if wanted.insert(file) {
            pending
                .extend(lines.get(file).into_iter().flat_map(|needed| needed.split_whitespace()));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_comes_along_from_wherever_it_lies() {
        let dependencies = "kernel/net/sctp/sctp.ko.xz: kernel/lib/crc32c.ko.xz\n\
                            kernel/lib/crc32c.ko.xz: kernel/crypto/crc.ko.xz\nkernel/crypto/crc.ko.xz:\n\
                            kernel/sound/snd.ko.xz:\nkernel/drivers/net/veth.ko.xz:\n";
        let expected = [
            "kernel/crypto/crc.ko.xz",
            "kernel/drivers/net/veth.ko.xz",
            "kernel/lib/crc32c.ko.xz",
            "kernel/net/sctp/sctp.ko.xz",
        ];
        assert_eq!(wanted(dependencies), BTreeSet::from(expected));
    }
}
