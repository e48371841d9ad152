//! Check that the eBPF objects of this folder match their sources.
//!
//! `observer/build.rs` and xtask include this file (`#[path]`), because a build script's dependency
//! would be compiled a second time for the host.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The crates that only the eBPF programs use. `Cargo.lock` gives their dependencies.
const ROOTS: [&str; 2] = ["aya-ebpf", "aya-log-ebpf"];

/// The folder of the objects, below the workspace.
pub(crate) const FOLDER: &str = "observer-ebpf/objects";
/// Name of the record of sources, compiler and flags.
pub(crate) const RECORD: &str = "built.txt";
/// The key of the sources' hash in that file.
pub(crate) const SOURCES: &str = "sources";

/// The state of the objects in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Fresh,
    /// Out of date; the reason.
    Stale(String),
}

/// Compares the record with the sources and the named objects.
pub(crate) fn state(workspace: &Path, objects: &[&str]) -> io::Result<State> {
    let folder = workspace.join(FOLDER);
    let record = match fs::read_to_string(folder.join(RECORD)) {
        Ok(record) => record,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(State::Stale("they are not built".into()));
        }
        Err(error) => return Err(error),
    };
    if value(&record, SOURCES) != Some(&sources(workspace)?) {
        return Ok(State::Stale("their sources have changed".into()));
    }
    for object in objects {
        let hash = match fs::read(folder.join(object)) {
            Ok(bytes) => Some(hash([&bytes[..]])),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if value(&record, object) != hash.as_deref() {
            return Ok(State::Stale(format!("{object} is not the one that {RECORD} names")));
        }
    }
    Ok(State::Fresh)
}

/// The value of a `key = value` line.
pub(crate) fn value<'a>(record: &'a str, key: &str) -> Option<&'a str> {
    record
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .find_map(|(it, value)| (it == key).then_some(value))
}

/// All files that determine the objects' bytes. xtask's compiler flags are in the record.
fn files(workspace: &Path) -> io::Result<Vec<PathBuf>> {
    let package = workspace.join("observer-ebpf");
    let mut files = vec![package.join("Cargo.toml")];
    collect(&package.join("src"), &mut files)?;
    files.sort();
    Ok(files)
}

/// The hash of the sources: the package, the profile, and the versions of its dependencies.
pub(crate) fn sources(workspace: &Path) -> io::Result<String> {
    let mut parts = Vec::new();
    for file in files(workspace)? {
        let name = file.strip_prefix(workspace).unwrap_or(&file);
        parts.push(name.to_string_lossy().into_owned().into_bytes());
        parts.push(fs::read(file)?);
    }
    parts.push(profile(&fs::read_to_string(workspace.join("Cargo.toml"))?).into_bytes());
    parts.push(dependencies(&fs::read_to_string(workspace.join("Cargo.lock"))?).into_bytes());
    Ok(hash(parts.iter().map(Vec::as_slice)))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// The section `[profile.bpf]` of the workspace's manifest.
fn profile(manifest: &str) -> String {
    let section = manifest.split_once("\n[profile.bpf]\n").map_or("", |(_, rest)| rest);
    section.split("\n[").next().unwrap_or_default().trim_end().to_owned()
}

/// Name, version and checksum of each package that only the eBPF programs need.
fn dependencies(lock: &str) -> String {
    let packages: Vec<&str> = lock.split("\n[[package]]\n").skip(1).collect();
    let mut wanted: Vec<String> = ROOTS.map(|root| format!("{root} ")).to_vec();
    let mut next = 0;
    let mut lines = Vec::new();
    while let Some(name) = wanted.get(next).cloned() {
        next += 1;
        for package in packages.iter().filter(|package| identity(package).starts_with(&name)) {
            lines.push(format!("{} {}\n", identity(package), quoted(package, "checksum = ")));
            for dependency in dependency_names(package) {
                if !wanted.contains(&dependency) {
                    wanted.push(dependency);
                }
            }
        }
    }
    lines.sort();
    lines.dedup();
    lines.concat()
}

/// `name version ` of a package in a lock file.
fn identity(package: &str) -> String {
    format!("{} {} ", quoted(package, "name = "), quoted(package, "version = "))
}

/// The dependencies of a package, each as the beginning of an identity: a name, with a version if
/// it is ambiguous.
fn dependency_names(package: &str) -> Vec<String> {
    let list = package.split_once("\ndependencies = [").map_or("", |(_, rest)| rest);
    let list = list.split(']').next().unwrap_or_default();
    let words = list.split('"').skip(1).step_by(2);
    words.map(|word| word.split(" (").next().unwrap_or_default().to_owned() + " ").collect()
}

fn quoted<'a>(package: &'a str, key: &str) -> &'a str {
    let value = package.lines().find_map(|line| line.strip_prefix(key));
    value.unwrap_or_default().trim_matches('"')
}

/// FNV-1a over parts and their lengths. It detects mistakes, not attacks, and must not depend on
/// the compiler.
pub(crate) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut take = |byte: &u8| hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        (part.len() as u64).to_le_bytes().iter().for_each(&mut take);
        part.iter().for_each(&mut take);
    }
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "version = 4\n\n[[package]]\nname = \"aya-ebpf\"\nversion = \"0.2.1\"\nchecksum = \"aa\"\n\
        dependencies = [\n \"aya-ebpf-macros\",\n \"syn 3.0.9\",\n]\n\n[[package]]\nname = \"aya-ebpf-macros\"\n\
        version = \"0.1.0\"\nchecksum = \"bb\"\n\n[[package]]\nname = \"syn\"\nversion = \"2.0.1\"\nchecksum = \"cc\"\n\n\
        [[package]]\nname = \"syn\"\nversion = \"3.0.9\"\nchecksum = \"dd\"\n\n[[package]]\nname = \"tokio\"\n\
        version = \"1.0.0\"\nchecksum = \"ee\"\n";

    fn workspace() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("observer-ebpf/src/packet")).unwrap();
        fs::create_dir_all(root.join(FOLDER)).unwrap();
        fs::write(
            root.join("Cargo.toml"),
            "[workspace]\n\n[profile.bpf]\nopt-level = 3\n\n[profile.x]\na = 1\n",
        )
        .unwrap();
        fs::write(root.join("Cargo.lock"), LOCK).unwrap();
        fs::write(root.join("observer-ebpf/Cargo.toml"), "[package]\n").unwrap();
        fs::write(root.join("observer-ebpf/src/packet/mod.rs"), "//! a\n").unwrap();
        fs::write(root.join(FOLDER).join("a.o"), "object").unwrap();
        folder
    }

    fn record(root: &Path) {
        let text =
            format!("{SOURCES} = {}\na.o = {}\n", sources(root).unwrap(), hash([&b"object"[..]]));
        fs::write(root.join(FOLDER).join(RECORD), text).unwrap();
    }

    #[test]
    fn a_change_of_anything_that_decides_about_the_bytes_makes_the_objects_stale() {
        let folder = workspace();
        let root = folder.path();
        let is_fresh = || state(root, &["a.o"]).unwrap() == State::Fresh;
        assert!(!is_fresh(), "there is no record");
        record(root);
        assert!(is_fresh());
        for (file, from, to, fresh) in [
            ("observer-ebpf/src/packet/mod.rs", "a", "b", false),
            ("observer-ebpf/Cargo.toml", "[package]", "[package]\nname = \"x\"", false),
            ("Cargo.toml", "opt-level = 3", "opt-level = 2", false),
            ("Cargo.toml", "a = 1", "a = 2", true),
            ("Cargo.lock", "aa", "ab", false),
            ("Cargo.lock", "dd", "de", false),
            ("Cargo.lock", "cc", "cd", true),
            ("Cargo.lock", "ee", "ef", true),
            ("observer-ebpf/objects/a.o", "object", "another", false),
        ] {
            let path = root.join(file);
            let before = fs::read_to_string(&path).unwrap();
            fs::write(&path, before.replacen(from, to, 1)).unwrap();
            assert_eq!(is_fresh(), fresh, "{file}: {from} → {to}");
            fs::write(&path, before).unwrap();
        }
        fs::write(root.join("observer-ebpf/src/new.rs"), "").unwrap();
        assert!(!is_fresh(), "a file is new");
        fs::remove_file(root.join("observer-ebpf/src/new.rs")).unwrap();
        fs::remove_file(root.join(FOLDER).join("a.o")).unwrap();
        assert!(!is_fresh(), "the object is gone");
    }

    #[test]
    fn a_value_is_that_of_its_own_key() {
        let record = "# sources = no\ncompiler = rustc 1.96 = new\nsources = 12\n";
        assert_eq!(value(record, "sources"), Some("12"));
        assert_eq!(value(record, "compiler"), Some("rustc 1.96 = new"));
        assert_eq!(value(record, "linker"), None);
    }
}
