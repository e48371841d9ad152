//! The names that a module takes from elsewhere: each path of a `use` declaration, and each path in
//! its code.

use proc_macro2::Span;
use syn::{
    Item, ItemUse, Path, UseTree, Visibility,
    visit::{self, Visit},
};

use super::tree::is_for_tests;

/// A path as written, such as `crate::flow::Table`.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) segments: Vec<String>,
    /// The last segment is `*`.
    pub(super) glob: bool,
    pub(super) line: usize,
    /// Name under which a `use` declaration makes it known; `None` for a path in code.
    pub(super) known_as: Option<String>,
    /// A `use` that others see: it imports nothing for its own module.
    pub(super) is_reexport: bool,
}

/// All names in the items of a module, but for those in modules within it.
pub(super) fn names(items: &[Item]) -> Vec<Name> {
    let mut collector = Collector { names: Vec::new() };
    for item in items {
        collector.visit_item(item);
    }
    collector.names
}

struct Collector {
    names: Vec<Name>,
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let is_reexport = !matches!(item.vis, Visibility::Inherited);
        let line = line(item.use_token.span);
        self.add(&item.tree, &mut Vec::new(), line, is_reexport);
    }

    /// The path in `pub(crate)` imports nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_path(&mut self, path: &'ast Path) {
        let segments: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        let line = path.segments.first().map_or(0, |first| line(first.ident.span()));
        self.names.push(Name { segments, glob: false, line, known_as: None, is_reexport: false });
        visit::visit_path(self, path);
    }
}

impl Collector {
    fn add(&mut self, tree: &UseTree, before: &mut Vec<String>, line: usize, is_reexport: bool) {
        let mut push = |segments: Vec<String>, glob: bool, known_as: Option<String>| {
            self.names.push(Name { segments, glob, line, known_as, is_reexport });
        };
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add(&path.tree, before, line, is_reexport);
                before.pop();
            }
            UseTree::Group(group) => {
                for tree in &group.items {
                    self.add(tree, before, line, is_reexport);
                }
            }
            UseTree::Name(name) if name.ident == "self" => {
                push(before.clone(), false, before.last().cloned());
            }
            UseTree::Name(name) => {
                let name = name.ident.to_string();
                push([before.clone(), vec![name.clone()]].concat(), false, Some(name));
            }
            UseTree::Rename(rename) => {
                let known_as = Some(rename.rename.to_string());
                push([before.clone(), vec![rename.ident.to_string()]].concat(), false, known_as);
            }
            UseTree::Glob(_) => push(before.clone(), true, None),
        }
    }
}

fn line(span: Span) -> usize {
    span.start().line
}

fn attributes(item: &Item) -> &[syn::Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
