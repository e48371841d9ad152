//! Which network namespaces there are, by their files.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::netns::Netns;

/// The namespaces that a folder leads to, by inode.
pub(super) fn scan(directory: &Path, known: &BTreeMap<u64, PathBuf>, found: &mut BTreeMap<u64, PathBuf>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_and_missing_folders_are_passed_over() {
        let mut found = BTreeMap::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("no-namespace"), "").unwrap();
        scan(directory.path(), &BTreeMap::new(), &mut found);
        scan(Path::new("/nonexistent"), &BTreeMap::new(), &mut found);
        assert!(found.is_empty());
    }
}
