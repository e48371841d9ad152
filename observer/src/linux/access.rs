//! Modes and group of the daemon's files and folders. They do not depend on the umask.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{
        DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
    },
    path::Path,
};

/// Access to new files and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    file: u32,
    folder: u32,
    /// ID of the group; `None` for the group of the process.
    group: Option<u32>,
}

impl Access {
    /// For the daemon alone.
    pub const PRIVATE: Self = Self { file: 0o600, folder: 0o700, group: None };

    /// For records, which name the peers of all tasks: the daemon writes, a group reads.
    pub const fn records(group: Option<u32>) -> Self {
        Self { file: 0o640, folder: 0o750, group }
    }

    /// The same, with the group of a file.
    pub fn with_group_of(self, file: &File) -> io::Result<Self> {
        Ok(Self { group: Some(file.metadata()?.gid()), ..self })
    }

    /// Creates a folder and its missing parents.
    pub fn create_folder(self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.create_folder(parent)?;
        }
        match DirBuilder::new().mode(self.folder).create(folder) {
            Ok(()) => self.apply(&File::open(folder)?, self.folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates a file for reading and writing. It must not exist, not even as a symbolic link.
    pub fn create_file(self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(self.file)
            .open(path)?;
        match self.apply(&file, self.file) {
            Ok(()) => Ok(file),
            Err(error) => {
                // The first error is the one to report.
                let _ = fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Opens a file for writing from its beginning, and creates it if it is missing. A symbolic
    /// link is an error.
    pub fn rewrite_file(self, path: &Path) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(self.file)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        self.apply(&file, self.file)?;
        Ok(file)
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
    use std::os::unix::fs::symlink;

    use super::*;

    const RECORDS: Access = Access::records(None);

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
        RECORDS.create_folder(&folder).unwrap();
        let file = folder.join("file");
        RECORDS.create_file(&file).unwrap();
        assert_eq!((mode(&old), mode(&folder), mode(&old.join("a"))), (before, 0o750, 0o750));
        assert_eq!(mode(&file), 0o640);
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        symlink(&target, &link).unwrap();
        let error = RECORDS.create_file(&link).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!target.exists());
        fs::write(&target, "precious").unwrap();
        assert!(Access::PRIVATE.rewrite_file(&link).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }
}
