//! Mode and group of record files and their folders.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::Path,
};

/// Mode of a file. Records name the peers of all tasks, so other users may not read them.
const FILE: u32 = 0o640;
/// Mode of a folder.
const FOLDER: u32 = 0o750;

/// Access to new files and folders. It does not depend on the umask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// ID of the group that may read them; `None` for the group of the process.
    pub group: Option<u32>,
}

impl Access {
    /// Creates a folder and its missing parents.
    pub fn create_folder(self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        match DirBuilder::new().mode(FOLDER).create(folder) {
            Ok(()) => self.apply(&File::open(folder)?, FOLDER),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates a file for reading and writing. It must not exist, not even as a symbolic link.
    pub fn create_file(self, path: &Path) -> io::Result<File> {
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).mode(FILE).open(path)?;
        match self.apply(&file, FILE) {
            Ok(()) => Ok(file),
            Err(error) => {
                // The first error is the one to report.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    fn apply(self, file: &File, mode: u32) -> io::Result<()> {
        if self.group.is_some() {
            fchown(file, None, self.group)?;
        }
        file.set_permissions(Permissions::from_mode(mode))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn new_folders_and_files_have_their_modes_and_others_keep_theirs() {
        let directory = tempfile::tempdir().unwrap();
        let old = directory.path().join("old");
        DirBuilder::new().mode(0o711).create(&old).unwrap();
        let before = mode(&old);
        let folder = old.join("a/b");
        Access::default().create_folder(&folder).unwrap();
        let file = folder.join("file");
        Access::default().create_file(&file).unwrap();
        assert_eq!((mode(&old), mode(&folder), mode(&old.join("a"))), (before, 0o750, 0o750));
        assert_eq!(mode(&file), 0o640);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        symlink(&target, &link).unwrap();
        let error = Access::default().create_file(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!target.exists());
    }
}
