//! The modules of a crate, found as rustc finds them: from the root file along its `mod`
//! declarations.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};
use syn::{Attribute, Expr, Item, ItemMod, Lit, Meta, MetaNameValue};

/// A module, with its items and those below it.
pub(super) struct Module {
    /// Its name, below the crate's.
    pub(super) path: Vec<String>,
    /// The file that holds it, below the workspace's root.
    pub(super) file: PathBuf,
    pub(super) items: Vec<Item>,
    /// Indexes of the modules that it declares.
    pub(super) children: Vec<usize>,
}

/// All modules of one crate; the root is the first.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) modules: Vec<Module>,
}

impl Tree {
    /// Reads the crate with this root file. Modules for tests alone are left out.
    pub(super) fn read(root: &Path, file: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let items = parse(root, file)?;
        tree.add(root, file, &folder, Vec::new(), items)?;
        Ok(tree)
    }

    /// Adds a module whose own modules lie in `folder`.
    fn add(
        &mut self,
        root: &Path,
        file: &Path,
        folder: &Path,
        path: Vec<String>,
        items: Vec<Item>,
    ) -> Result<usize> {
        let index = self.modules.len();
        self.modules.push(Module {
            path,
            file: file.to_owned(),
            items: Vec::new(),
            children: Vec::new(),
        });
        let (mut own, mut children) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Item::Mod(module) if is_for_tests(&module.attrs) => {}
                Item::Mod(module) => {
                    let mut path = self.modules[index].path.clone();
                    path.push(module.ident.to_string());
                    let below = folder.join(module.ident.to_string());
                    let child = if let Some((_, items)) = &module.content {
                        self.add(root, file, &below, path, items.clone())?
                    } else {
                        let file = file_of(root, file, folder, &module)?;
                        let below =
                            if file.ends_with("mod.rs") { file.with_file_name("") } else { below };
                        self.add(root, &file, &below, path, parse(root, &file)?)?
                    };
                    children.push(child);
                }
                item => own.push(item),
            }
        }
        let module = &mut self.modules[index];
        (module.items, module.children) = (own, children);
        Ok(index)
    }

    /// A module that `module` declares.
    pub(super) fn child(&self, module: usize, name: &str) -> Option<usize> {
        let is_named =
            |child: &&usize| self.modules[**child].path.last().is_some_and(|last| last == name);
        self.modules[module].children.iter().find(is_named).copied()
    }

    /// The module that declares `module`.
    pub(super) fn parent(&self, module: usize) -> Option<usize> {
        self.modules.iter().position(|other| other.children.contains(&module))
    }
}

/// True if an item is compiled for tests alone.
pub(super) fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The file of a module that `from` declares; its own modules lie in `folder`.
fn file_of(root: &Path, from: &Path, folder: &Path, module: &ItemMod) -> Result<PathBuf> {
    let name = module.ident.to_string();
    let places = match given_path(&module.attrs) {
        Some(path) => vec![normal(&from.with_file_name(path))],
        None => vec![folder.join(&name).join("mod.rs"), folder.join(format!("{name}.rs"))],
    };
    let found = places.into_iter().find(|file| root.join(file).is_file());
    found.with_context(|| format!("{}: no file for mod {name}", from.display()))
}

/// The value of a `#[path]`.
fn given_path(attributes: &[Attribute]) -> Option<String> {
    attributes.iter().find(|attribute| attribute.path().is_ident("path")).and_then(|attribute| {
        let Meta::NameValue(MetaNameValue { value: Expr::Lit(literal), .. }) = &attribute.meta
        else {
            return None;
        };
        let Lit::Str(path) = &literal.lit else { return None };
        Some(path.value())
    })
}

/// The same path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        if component == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    normal
}

fn parse(root: &Path, file: &Path) -> Result<Vec<Item>> {
    let text = fs::read_to_string(root.join(file)).with_context(|| file.display().to_string())?;
    Ok(syn::parse_file(&text).with_context(|| file.display().to_string())?.items)
}
