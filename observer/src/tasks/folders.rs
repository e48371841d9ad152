//! Watches folders of namespace files for new files, by inotify.
//!
//! A folder may not exist yet: `/run/netns` is made by the first `ip netns add`,
//! `/run/docker/netns` by the first container. Until then the nearest existing parent is watched
//! for the next part of the path.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

/// Device and inode of a folder. The path does not identify it: another folder may replace it
/// there.
type Id = (u64, u64);

/// The watched folders.
#[derive(Debug)]
pub(super) struct Folders {
    inotify: Inotify,
    watched: BTreeMap<Id, Watched>,
}

/// A watched folder.
#[derive(Debug)]
struct Watched {
    descriptor: WatchDescriptor,
    names: Names,
}

/// Names of new files to report.
#[derive(Debug, PartialEq, Eq)]
enum Names {
    /// All names.
    All,
    /// These names, which are parts of the path of a folder of namespace files.
    These(BTreeSet<OsString>),
}

impl Names {
    fn contains(&self, name: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }

    fn add(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::These(names), Self::These(others)) => names.extend(others),
            (Self::All, _) => {}
            (_, all) => *self = all,
        }
    }
}

impl Folders {
    /// Watches nothing yet. Fails if the user has no inotify instance left
    /// (`fs.inotify.max_user_instances`).
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { inotify: Inotify::init()?, watched: BTreeMap::new() })
    }

    /// Watches exactly these folders. Repeated calls follow folders that appear, disappear or are
    /// replaced.
    pub(super) fn watch(&mut self, folders: &[PathBuf]) {
        let Self { inotify, watched } = self;
        let mut wanted = BTreeMap::<Id, (&Path, Names)>::new();
        for (id, path, names) in folders.iter().filter_map(|folder| nearest(folder)) {
            match wanted.get_mut(&id) {
                Some((_, known)) => known.add(names),
                None => drop(wanted.insert(id, (path, names))),
            }
        }
        watched.retain(|id, watched| {
            let stays = wanted.contains_key(id);
            if !stays {
                // The kernel has removed the watch of a folder that is gone.
                let _ = inotify.watches().remove(watched.descriptor.clone());
            }
            stays
        });
        for (id, (path, names)) in wanted {
            if let Some(watched) = watched.get_mut(&id) {
                watched.names = names;
                continue;
            }
            let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::ONLYDIR;
            // An error is retried at the next call; until then scans find new files.
            if let Ok(descriptor) = inotify.watches().add(path, mask) {
                watched.insert(id, Watched { descriptor, names });
            }
        }
    }

    /// True if new files have appeared since the last call that are, or lead to, namespace files.
    pub(super) fn take_notices(&mut self) -> bool {
        let Self { inotify, watched } = self;
        let mut buffer = [0; 4096];
        let Ok(events) = inotify.read_events(&mut buffer) else { return false };
        let mut noticed = false;
        for event in events {
            if event.mask.contains(EventMask::IGNORED) {
                // The folder is gone, and any folder at its path from now on is another one.
                watched.retain(|_, watched| watched.descriptor != event.wd);
                continue;
            }
            let folder = watched.values().find(|watched| watched.descriptor == event.wd);
            noticed |= event.mask.contains(EventMask::Q_OVERFLOW)
                || folder.zip(event.name).is_some_and(|(folder, name)| folder.names.contains(name));
        }
        noticed
    }
}

impl AsFd for Folders {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The folder, or its nearest parent that exists, and the names to report in it.
fn nearest(folder: &Path) -> Option<(Id, &Path, Names)> {
    let mut below = None;
    for path in folder.ancestors().filter(|path| !path.as_os_str().is_empty()) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let names =
                    below.map_or(Names::All, |name: &OsStr| Names::These([name.to_owned()].into()));
                return Some(((metadata.dev(), metadata.ino()), path, names));
            }
            _ => below = path.file_name(),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[test]
    fn files_are_noticed_in_a_folder_that_appears_goes_and_appears_again() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("run/netns");
        let mut folders = Folders::new().unwrap();
        let watched = [folder.clone()];
        for round in 0..3 {
            folders.watch(&watched);
            assert!(!folders.take_notices(), "round {round}");
            fs::write(directory.path().join(format!("other-{round}")), "").unwrap();
            assert!(!folders.take_notices(), "round {round}: a file that leads nowhere");
            for step in [directory.path().join("run"), folder.clone(), folder.join("task")] {
                if step.ends_with("task") { fs::write(step, "") } else { fs::create_dir(step) }
                    .unwrap();
                assert!(folders.take_notices(), "round {round}");
                folders.watch(&watched);
                assert!(!folders.take_notices(), "round {round}");
            }
            fs::remove_dir_all(directory.path().join("run")).unwrap();
            folders.take_notices();
        }
    }

    #[test]
    fn a_folder_that_is_replaced_is_watched_anew() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("netns");
        fs::create_dir(&folder).unwrap();
        let mut folders = Folders::new().unwrap();
        folders.watch(slice::from_ref(&folder));
        fs::rename(&folder, directory.path().join("old")).unwrap();
        fs::create_dir(&folder).unwrap();
        folders.watch(slice::from_ref(&folder));
        folders.take_notices();
        fs::write(folder.join("task"), "").unwrap();
        assert!(folders.take_notices());
    }

    #[test]
    fn folders_below_the_same_one_do_not_disturb_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let wanted = ["a", "b"].map(|name| directory.path().join(name));
        let mut folders = Folders::new().unwrap();
        folders.watch(&wanted);
        for folder in &wanted {
            fs::create_dir(folder).unwrap();
            assert!(folders.take_notices());
            folders.watch(&wanted);
            fs::write(folder.join("task"), "").unwrap();
            assert!(folders.take_notices());
        }
    }
}
