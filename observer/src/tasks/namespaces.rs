//! Which network namespaces there are, by their files and by the processes in them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::netns::Netns;

/// The folder that stands for the namespaces of running processes.
pub const PROC: &str = "/proc";

/// The namespaces that a folder leads to, by inode.
pub(super) fn scan(directory: &Path, known: &BTreeMap<u64, PathBuf>, found: &mut BTreeMap<u64, PathBuf>) {
    if directory == Path::new(PROC) { scan_processes(found) } else { scan_files(directory, known, found) }
}

fn scan_files(directory: &Path, known: &BTreeMap<u64, PathBuf>, found: &mut BTreeMap<u64, PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        // A file known to be a namespace is recognised by its inode alone, which spares opening it again.
        let inode = match fs::metadata(&path) {
            Ok(metadata) if known.get(&metadata.ino()) == Some(&path) => metadata.ino(),
            Ok(_) => match Netns::at(&path) {
                Ok(Some(netns)) => netns.inode,
                _ => continue,
            },
            Err(_) => continue,
        };
        found.entry(inode).or_insert(path);
    }
}

fn scan_processes(found: &mut BTreeMap<u64, PathBuf>) {
    for entry in fs::read_dir(PROC).into_iter().flatten().flatten() {
        if !entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        let path = entry.path().join("ns/net");
        let Ok(target) = fs::read_link(&path) else { continue };
        if let Some(inode) = target.to_str().and_then(inode_of) {
            found.entry(inode).or_insert(path);
        }
    }
}

/// The inode in `net:[4026531840]`.
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_this_process_is_found() {
        let mut found = BTreeMap::new();
        scan(Path::new(PROC), &BTreeMap::new(), &mut found);
        assert!(found.contains_key(&Netns::own().unwrap().inode));
    }

    #[test]
    fn plain_files_and_missing_folders_are_passed_over() {
        let mut found = BTreeMap::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("no-namespace"), "").unwrap();
        scan(directory.path(), &BTreeMap::new(), &mut found);
        scan(Path::new("/nonexistent"), &BTreeMap::new(), &mut found);
        assert!(found.is_empty());
    }

    #[test]
    fn only_the_link_of_a_network_namespace_has_an_inode() {
        assert_eq!(inode_of("net:[4026531840]"), Some(4_026_531_840));
        assert_eq!(inode_of("mnt:[4026531840]"), None);
        assert_eq!(inode_of("net:[]"), None);
    }
}
