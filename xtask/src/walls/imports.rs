//! The graph of imports: the importing file, the imported name, and the file that defines it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    names::{Name, names},
    tree::Tree,
};

/// An import of one file by another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Import {
    pub(super) from: PathBuf,
    pub(super) line: usize,
    pub(super) to: PathBuf,
    pub(super) name: String,
}

/// All imports of a crate.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) imports: BTreeSet<Import>,
    /// Names taken from other crates of the workspace: file, line and path.
    pub(super) foreign: BTreeSet<(PathBuf, usize, String)>,
}

impl Graph {
    /// Adds the imports of the modules of one root.
    pub(super) fn add(&mut self, tree: &Tree) {
        let names: Vec<Vec<Name>> =
            tree.modules.iter().map(|module| names(&module.items)).collect();
        let resolver = Resolver { tree, names: &names };
        for (module, own) in names.iter().enumerate() {
            let from = &tree.modules[module].file;
            for name in own {
                if let Some(first) = name.segments.first()
                    && first.starts_with("observer")
                {
                    self.foreign.insert((from.clone(), name.line, name.segments.join("::")));
                }
                if name.is_reexport {
                    continue;
                }
                for (to, taken) in resolver.resolve(module, name) {
                    if *to != **from {
                        self.imports.insert(Import {
                            from: from.clone(),
                            line: name.line,
                            to: to.to_owned(),
                            name: taken,
                        });
                    }
                }
            }
        }
    }

    /// The files that each file imports.
    pub(super) fn files(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let mut files: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
        for import in &self.imports {
            files.entry(&import.from).or_default().insert(&import.to);
            files.entry(&import.to).or_default();
        }
        files
    }
}

struct Resolver<'a> {
    tree: &'a Tree,
    /// By module.
    names: &'a [Vec<Name>],
}

/// Re-exports of re-exports are followed this far.
const DEPTH: usize = 8;

impl<'a> Resolver<'a> {
    /// The files that define `name`, as written in `module`.
    fn resolve(&self, module: usize, name: &Name) -> Vec<(&'a Path, String)> {
        let Some((start, rest)) = self.start(module, &name.segments, name.known_as.is_some())
        else {
            return Vec::new();
        };
        self.follow(start, rest, name.glob, DEPTH)
    }

    /// The module that a path begins in, and the rest of the path. `None` if it begins outside of
    /// the crate, or with a name that the module itself imports or defines.
    fn start<'n>(
        &self,
        module: usize,
        segments: &'n [String],
        in_use: bool,
    ) -> Option<(usize, &'n [String])> {
        let (first, rest) = segments.split_first()?;
        match first.as_str() {
            "crate" => Some((0, rest)),
            "self" if !rest.is_empty() => Some((module, rest)),
            "super" => {
                let mut parent = self.tree.parent(module)?;
                let mut rest = rest;
                while let Some((next, after)) = rest.split_first()
                    && next == "super"
                {
                    (parent, rest) = (self.tree.parent(parent)?, after);
                }
                Some((parent, rest))
            }
            name if in_use || !rest.is_empty() => {
                self.tree.child(module, name).map(|child| (child, rest))
            }
            _ => None,
        }
    }

    fn follow(
        &self,
        module: usize,
        rest: &[String],
        glob: bool,
        depth: usize,
    ) -> Vec<(&'a Path, String)> {
        let file = &*self.tree.modules[module].file;
        let Some((first, after)) = rest.split_first() else {
            let name = if glob { "*".to_owned() } else { "self".to_owned() };
            return vec![(file, name)];
        };
        if let Some(child) = self.tree.child(module, first) {
            return self.follow(child, after, glob, depth);
        }
        if depth > 0
            && let Some(origin) =
                self.names[module].iter().find(|name| name.known_as.as_ref() == Some(first))
            && let Some((start, path)) = self.start(module, &origin.segments, true)
        {
            return self.follow(start, &[path, after].concat(), glob, depth - 1);
        }
        vec![(file, first.clone())]
    }
}
