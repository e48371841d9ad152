//! Checks the imports between rooms, read from the source's own `use` declarations and paths.
//!
//! Owns: the module tree of a crate, the imports in it, and the two rules about them. In: the
//! sources of the workspace, and the table of rooms in the head of `observer/src/lib.rs`. Out: one
//! line for each import that breaks a rule.
//!
//! 1. A room of the daemon imports only the rooms that its row of the table allows.
//! 2. No two files of a crate import each other, directly or through others. A name that a `mod.rs`
//!    re-exports counts as an
//!    import of the file that defines it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

mod circles;
mod imports;
mod names;
mod rooms;
mod tree;

use self::{circles::circles, imports::Graph, rooms::Rooms, tree::Tree};

/// The crate that is divided into rooms.
const DAEMON: &str = "observer";

/// Crate roots: the name of the crate, and the files that rustc is given for it.
const CRATES: [(&str, &[&str]); 4] = [
    (DAEMON, &["observer/src/lib.rs", "observer/src/main.rs"]),
    (
        "observer-ebpf",
        &["observer-ebpf/src/lib.rs", "observer-ebpf/src/main.rs", "observer-ebpf/src/bench.rs"],
    ),
    ("xtask", &["xtask/src/main.rs"]),
    (
        "tests",
        &[
            "tests/src/lib.rs",
            "tests/bench/main.rs",
            "tests/differential/main.rs",
            "tests/e2e/main.rs",
            "tests/guest/main.rs",
            "tests/programs/main.rs",
        ],
    ),
];

/// Checks all crates of the workspace at `root`.
pub(crate) fn check(root: &Path) -> Result<()> {
    let broken = broken(root, &CRATES)?;
    for line in &broken {
        eprintln!("{line}");
    }
    if broken.is_empty() {
        return Ok(());
    }
    bail!("{} imports break a rule: see the lines above", broken.len())
}

/// A line for each import of these crates that breaks a rule.
fn broken(root: &Path, crates: &[(&str, &[&str])]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (name, roots) in crates {
        let mut graph = Graph::default();
        for file in *roots {
            let tree = Tree::read(root, Path::new(file))
                .with_context(|| format!("reading the crate {name}"))?;
            graph.add(&tree);
        }
        lines.extend(circles(&graph));
        if *name == DAEMON {
            let head = std::fs::read_to_string(root.join("observer/src/lib.rs"))?;
            lines.extend(Rooms::in_head(&head)?.broken(&graph));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Adds a line to one of the daemon's sources, and returns the broken rules of that file.
    fn with_line(file: &str, line: &str) -> Vec<String> {
        let copy = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        copy_sources(&root.join("observer/src"), &copy.path().join("observer/src"));
        let changed = copy.path().join(file);
        let text = fs::read_to_string(&changed).unwrap();
        fs::write(&changed, format!("{text}\n{line}\n")).unwrap();
        broken(copy.path(), &CRATES[..1]).unwrap()
    }

    fn copy_sources(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy_sources(&path, &to);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                fs::copy(&path, &to).unwrap();
            }
        }
    }

    #[test]
    fn an_import_that_the_table_does_not_allow_is_refused() {
        let lines = with_line("observer/src/flow/table.rs", "use crate::sink::Sinks;");
        // The line closes a circle too, which is reported in a line of its own.
        let refused = |line: &String| {
            line.starts_with("observer/src/flow/table.rs:")
                && line.contains("flow may not import sink")
        };
        assert!(lines.iter().any(refused), "{lines:?}");
    }

    #[test]
    fn a_path_in_code_counts_as_an_import() {
        let lines = with_line("observer/src/flow/window.rs", "fn f() { crate::sink::f(); }");
        assert!(lines.iter().any(|line| line.contains("flow may not import sink")), "{lines:?}");
    }

    #[test]
    fn two_files_that_import_each_other_are_refused() {
        let lines = with_line("observer/src/flow/key.rs", "use super::Table;");
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let files = ["observer/src/flow/key.rs", "observer/src/flow/table.rs"];
        assert!(files.iter().all(|file| line.contains(file)), "{line}");
    }

    #[test]
    fn imports_of_tests_do_not_count() {
        let line = "#[cfg(test)] mod other { use crate::sink::Sinks; }";
        assert_eq!(with_line("observer/src/flow/window.rs", line), [""; 0]);
    }
}
