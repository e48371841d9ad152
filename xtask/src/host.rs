//! Properties of this machine: distribution, kernel, user, installed programs.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// The distribution's ID, such as `debian`.
pub(crate) fn distribution() -> Option<String> {
    distribution_in(&fs::read_to_string("/etc/os-release").ok()?)
}

fn distribution_in(os_release: &str) -> Option<String> {
    let id = os_release.lines().find_map(|line| line.trim().strip_prefix("ID="))?;
    Some(id.trim_matches(['"', '\'']).to_owned())
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel() -> Option<(u32, u32)> {
    version_in(&fs::read_to_string("/proc/sys/kernel/osrelease").ok()?)
}

/// The first two numbers of a version such as `6.1.0-49-cloud-amd64` or `1.95`.
pub(crate) fn version_in(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// True if this process runs as root: `/proc/self` belongs to the effective user.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Finds a program by name in [`search_path`].
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|folder| folder.join(name)).find(|program| is_program(program))
}

/// The folders of PATH, and those that on Debian only root's PATH has.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).filter(|folder| folder.is_absolute()).chain(system).collect()
}

/// Finds a program by name in a tree of unpacked Debian packages.
pub(crate) fn find_program_in(tree: &Path, name: &str) -> Option<PathBuf> {
    program_folders(tree)
        .map(|folder| folder.join(name))
        .into_iter()
        .find(|program| is_program(program))
}

/// Folders for programs in a tree of unpacked Debian packages.
pub(crate) fn program_folders(tree: &Path) -> [PathBuf; 3] {
    [tree.join("usr/bin"), tree.join("usr/sbin"), tree.join("bin")]
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distribution_is_the_id_not_the_name_or_the_version() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(distribution_in(text).as_deref(), expected);
        };
        check("NAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n", Some("debian"));
        check("ID=\"amzn\"\nID_LIKE=\"fedora\"\n", Some("amzn"));
        check("ID='arch'\n", Some("arch"));
        check("ID_LIKE=debian\nVERSION_ID=1\n", None);
        check("", None);
    }

    #[test]
    fn versions_are_the_first_two_numbers() {
        assert_eq!(version_in("6.1.0-49-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(version_in("5.10.245-241.976.amzn2.x86_64"), Some((5, 10)));
        assert_eq!(version_in("1.95"), Some((1, 95)));
        assert_eq!(version_in("unknown"), None);
    }
}
