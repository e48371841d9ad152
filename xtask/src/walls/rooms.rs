//! The table of rooms in the head of the daemon's `lib.rs`, compared with the imports.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::{Result, bail};

use super::imports::Graph;

/// The rooms that each room may import; `None` where it may import all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rooms(BTreeMap<String, Option<BTreeSet<String>>>);

impl Rooms {
    /// Reads the rows `| [`room`] | … | [`other`], [`third`] |` of a file's head; `all` in the last
    /// cell allows all rooms.
    pub(super) fn in_head(text: &str) -> Result<Self> {
        let mut rooms = BTreeMap::new();
        for row in text.lines().filter_map(|line| line.strip_prefix("//! |")) {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let (Some(first), Some(last)) = (cells.first(), cells.last()) else { continue };
            let allowed = if *last == "all" { None } else { Some(in_brackets(last).collect()) };
            for room in in_brackets(first) {
                if rooms.insert(room.clone(), allowed.clone()).is_some() {
                    bail!("observer/src/lib.rs: the table of rooms has two rows for {room}");
                }
            }
        }
        if rooms.is_empty() {
            bail!("observer/src/lib.rs: no table of rooms in its head");
        }
        Ok(Self(rooms))
    }

    /// A line for each import that the table does not allow, for each room without a row, and for
    /// each room that a row names and nobody there imports.
    pub(super) fn broken(&self, graph: &Graph) -> Vec<String> {
        let mut lines = BTreeSet::new();
        let mut used = BTreeSet::new();
        for import in &graph.imports {
            let (Some(from), Some(to)) = (room(&import.from), room(&import.to)) else { continue };
            if from != to {
                self.judge(&mut lines, (&import.from, import.line), &from, &to);
                used.insert((from, to));
            }
        }
        for (file, line, path) in &graph.foreign {
            // `observer_ebpf::abi::Ledger`: its second segment is the room.
            let to = path.split("::").take(2).collect::<Vec<_>>().join("::");
            if let Some(from) = room(file)
                && path.starts_with("observer_ebpf::")
            {
                self.judge(&mut lines, (file, *line), &from, &to);
                used.insert((from, to));
            }
        }
        for (from, to) in self.pairs().filter(|pair| !used.contains(pair)) {
            lines.insert(format!(
                "observer/src/lib.rs: {from} does not import {to}, which its row allows"
            ));
        }
        lines.into_iter().collect()
    }

    /// Each room with each room that its row names.
    fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        self.0.iter().flat_map(|(from, allowed)| {
            allowed.iter().flatten().map(move |to| (from.clone(), to.clone()))
        })
    }

    fn judge(
        &self,
        lines: &mut BTreeSet<String>,
        (file, line): (&Path, usize),
        from: &str,
        to: &str,
    ) {
        let place = format!("{}:{line}", file.display());
        match self.0.get(from) {
            None => {
                lines.insert(format!("{place}: the table of rooms has no row for {from}"));
            }
            Some(Some(allowed)) if !allowed.contains(to) => {
                lines.insert(format!(
                    "{place}: {from} may not import {to} (table of rooms in observer/src/lib.rs)"
                ));
            }
            Some(_) => {}
        }
    }
}

/// The names in `` [`…`] ``.
fn in_brackets(cell: &str) -> impl Iterator<Item = String> {
    cell.split("[`").skip(1).filter_map(|rest| Some(rest.split_once("`]")?.0.to_owned()))
}

/// The room of a file of the daemon; `None` for the crate's roots.
fn room(file: &Path) -> Option<String> {
    let below = file.strip_prefix("observer/src").ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_from_the_head() {
        let head = "//! Head.\n//! | room | owns | may import |\n//! |---|---|---|\n\
                    //! | [`flow`] | windows | – |\n//! | [`kernel`], [`linux`] | x | [`flow`], [`observer_ebpf::abi`] |\n\
                    //! | [`app`] | wiring | all |\n";
        let row = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let rows = [
            ("flow", row(&[])),
            ("kernel", row(&["flow", "observer_ebpf::abi"])),
            ("linux", row(&["flow", "observer_ebpf::abi"])),
            ("app", None),
        ];
        let expected = rows.into_iter().map(|(room, allowed)| (room.to_owned(), allowed)).collect();
        assert_eq!(Rooms::in_head(head).unwrap(), Rooms(expected));
        assert!(Rooms::in_head("//! nothing").is_err());
    }

    #[test]
    fn a_file_lies_in_the_room_of_its_folder() {
        assert_eq!(room(Path::new("observer/src/flow/table.rs")).as_deref(), Some("flow"));
        assert_eq!(room(Path::new("observer/src/worker.rs")).as_deref(), Some("worker"));
        assert_eq!(room(Path::new("observer/src/main.rs")), None);
        assert_eq!(room(Path::new("xtask/src/main.rs")), None);
    }
}
