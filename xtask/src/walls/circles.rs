//! Circles: files that import each other, directly or through others.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::Path,
};

use super::imports::Graph;

/// One text for each circle: its files, and the imported names between them.
pub(super) fn circles(graph: &Graph) -> Vec<String> {
    let files = graph.files();
    let reach: BTreeMap<&Path, BTreeSet<&Path>> =
        files.keys().map(|file| (*file, reachable(&files, file))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for file in files.keys() {
        let circle: BTreeSet<&Path> =
            reach[file].iter().copied().filter(|other| reach[other].contains(file)).collect();
        if circle.len() > 1 && seen.insert(circle.clone()) {
            circles.push(text(graph, &circle));
        }
    }
    circles
}

/// All files that a file imports, directly or through others. Contains the file itself only if it
/// is in a circle.
fn reachable<'a>(
    files: &BTreeMap<&'a Path, BTreeSet<&'a Path>>,
    file: &Path,
) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Path> = files.get(file).into_iter().flatten().copied().collect();
    while let Some(file) = next.pop() {
        if reached.insert(file) {
            next.extend(files.get(file).into_iter().flatten());
        }
    }
    reached
}

fn text(graph: &Graph, circle: &BTreeSet<&Path>) -> String {
    let mut ties: BTreeMap<(&Path, &Path), BTreeSet<&str>> = BTreeMap::new();
    for import in &graph.imports {
        if circle.contains(&*import.from) && circle.contains(&*import.to) {
            ties.entry((&import.from, &import.to)).or_default().insert(&import.name);
        }
    }
    let mut text = format!("{} files import each other:", circle.len());
    for ((from, to), names) in ties {
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {} takes {names} from {}", from.display(), to.display());
    }
    text
}
