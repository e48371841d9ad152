//! Finds network namespaces by their files.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::linux::netns::Netns;

/// Age at which an empty file no longer counts as a future namespace file.
const MAKING: Duration = Duration::from_secs(2);

/// Adds the namespaces whose files are in a folder to `found`, by inode. Returns true if a file may
/// become a namespace file: such a file is created empty, and mounted over a moment later.
pub(super) fn scan(
    directory: &Path,
    known: &BTreeMap<u64, PathBuf>,
    found: &mut BTreeMap<u64, PathBuf>,
) -> bool {
    let mut in_the_making = false;
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::metadata(&path) else { continue };
        // The inode alone identifies a known namespace file, without opening it again.
        let inode = if known.get(&metadata.ino()) == Some(&path) {
            metadata.ino()
        } else if let Ok(Some(netns)) = Netns::at(&path) {
            netns.inode
        } else {
            in_the_making |= may_become_namespace(&metadata);
            continue;
        };
        found.entry(inode).or_insert(path);
    }
    in_the_making
}

fn may_become_namespace(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|time| time.elapsed().ok());
    metadata.is_file() && metadata.len() == 0 && age.is_some_and(|age| age < MAKING)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn plain_files_and_missing_folders_are_passed_over() {
        let mut found = BTreeMap::new();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("no-namespace"), "text").unwrap();
        assert!(!scan(directory.path(), &BTreeMap::new(), &mut found));
        assert!(!scan(Path::new("/nonexistent"), &BTreeMap::new(), &mut found));
        assert!(found.is_empty());
    }

    #[test]
    fn a_file_that_has_just_been_made_may_become_a_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let file = fs::File::create(directory.path().join("task")).unwrap();
        assert!(scan(directory.path(), &BTreeMap::new(), &mut BTreeMap::new()));
        file.set_modified(SystemTime::now() - 2 * MAKING).unwrap();
        assert!(!scan(directory.path(), &BTreeMap::new(), &mut BTreeMap::new()));
    }
}
