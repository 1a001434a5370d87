//! The modules of a crate, and which of them use which, read from the source.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use syn::buffer::{Cursor, TokenBuffer};
use syn::visit::{self, Visit};
use syn::{Attribute, File, Item, ItemFn, ItemImpl, ItemMod, ItemUse, Macro, UseTree, VisRestricted};

/// The path of a module from the root of its crate, which has the empty path.
type ModulePath = Vec<String>;

/// A module that names another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub from: ModulePath,
    pub to: ModulePath,
}

/// The files of a crate. Modules inside a file belong to the file; modules of tests are left out.
pub struct Source {
    files: BTreeMap<ModulePath, File>,
    /// What the root takes from its modules, by the name that it gives it.
    reexports: BTreeMap<String, ModulePath>,
}

impl Source {
    /// The files below a folder, from `lib.rs` on.
    pub fn read(folder: &Path) -> Source {
        Source::load(&|path| {
            let stem = if path.is_empty() { folder.join("lib") } else { folder.join(path.join("/")) };
            let file = [stem.with_extension("rs"), stem.join("mod.rs")].into_iter().find(|file| file.exists());
            let file = file.unwrap_or_else(|| panic!("no file of the module {path:?}"));
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
        })
    }

    /// Files that are given by their names without the ending; the root has the empty name.
    pub fn from_texts(texts: &[(&str, &str)]) -> Source {
        Source::load(&|path| {
            let name = path.join("/");
            let (_, text) = texts.iter().find(|(at, _)| *at == name).unwrap_or_else(|| panic!("no file {name}"));
            (*text).to_owned()
        })
    }

    /// Follows the declarations of modules from the root.
    fn load(text: &dyn Fn(&[String]) -> String) -> Source {
        let mut source = Source { files: BTreeMap::new(), reexports: BTreeMap::new() };
        let mut open = vec![ModulePath::new()];
        while let Some(path) = open.pop() {
            let file = syn::parse_file(&text(&path)).unwrap_or_else(|error| panic!("{path:?}: {error}"));
            let declared = file.items.iter().filter_map(|item| {
                let Item::Mod(module) = item else { return None };
                (module.content.is_none() && !is_test(&module.attrs)).then(|| module.ident.to_string())
            });
            open.extend(declared.map(|name| [path.as_slice(), &[name]].concat()));
            source.files.insert(path, file);
        }
        for item in &source.files[&ModulePath::new()].items {
            if let Item::Use(taken) = item {
                for (path, name) in leaves(&taken.tree) {
                    if let Some(module) = source.resolve(&[], &path) {
                        source.reexports.insert(name, module);
                    }
                }
            }
        }
        source
    }

    /// The paths of all modules but the root.
    pub fn modules(&self) -> impl Iterator<Item = &ModulePath> {
        self.files.keys().filter(|path| !path.is_empty())
    }

    /// Which modules name which, the root left out.
    pub fn uses(&self) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        for (module, file) in self.files.iter().filter(|(module, _)| !module.is_empty()) {
            let mut paths = Paths::default();
            paths.visit_file(file);
            let named = paths.found.iter().filter_map(|path| self.resolve(module, path));
            uses.extend(named.filter(|to| !to.is_empty()).map(|to| Use { from: module.clone(), to }));
        }
        uses
    }

    /// The module whose item a path names when it stands in `module`; none if the path leads to another crate or to something local.
    fn resolve(&self, module: &[String], path: &[String]) -> Option<ModulePath> {
        let mut at = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                at.clear();
                rest = &rest[1..];
            }
            "self" => rest = &rest[1..],
            "super" => {}
            child => {
                self.child(&at, child)?;
            }
        }
        while let Some((name, after)) = rest.split_first() {
            if name == "super" {
                at.pop()?;
            } else if let Some(child) = self.child(&at, name) {
                at = child;
            } else if let Some(module) = self.reexports.get(name).filter(|_| at.is_empty()) {
                return Some(module.clone());
            } else {
                break;
            }
            rest = after;
        }
        Some(at)
    }

    fn child(&self, module: &[String], name: &str) -> Option<ModulePath> {
        let child = [module, &[name.to_owned()]].concat();
        self.files.contains_key(&child).then_some(child)
    }
}

/// Whether something is there for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|a| a.path().is_ident("cfg") && a.parse_args::<syn::Path>().is_ok_and(|p| p.is_ident("test")))
}

/// The paths of a tree of uses, each with the name that it gives.
fn leaves(tree: &UseTree) -> Vec<(Vec<String>, String)> {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            let below = leaves(&path.tree).into_iter();
            below.map(|(rest, name)| ([vec![first.clone()], rest].concat(), name)).collect()
        }
        UseTree::Name(name) => vec![(vec![name.ident.to_string()], name.ident.to_string())],
        UseTree::Rename(name) => vec![(vec![name.ident.to_string()], name.rename.to_string())],
        UseTree::Glob(_) => vec![(Vec::new(), String::new())],
        UseTree::Group(group) => group.items.iter().flat_map(leaves).collect(),
    }
}

/// Collects all paths of a file that may lead to another module.
#[derive(Default)]
struct Paths {
    found: Vec<Vec<String>>,
}

impl Paths {
    /// The paths in the arguments of a macro, whose form only the macro knows.
    fn visit_tokens(&mut self, mut cursor: Cursor<'_>) {
        while !cursor.eof() {
            if let Some((inside, _, _, after)) = cursor.any_group() {
                self.visit_tokens(inside);
                cursor = after;
            } else if let Some((ident, mut after)) = cursor.ident() {
                let mut path = vec![ident.to_string()];
                while let Some((next, behind)) = colons(after).and_then(|behind| behind.ident()) {
                    path.push(next.to_string());
                    after = behind;
                }
                self.keep(path);
                cursor = after;
            } else {
                let Some((_, after)) = cursor.token_tree() else { return };
                cursor = after;
            }
        }
    }

    /// A single name is local, or was taken in by a use.
    fn keep(&mut self, path: Vec<String>) {
        if path.len() > 1 {
            self.found.push(path);
        }
    }
}

/// What is behind `::`.
fn colons(cursor: Cursor<'_>) -> Option<Cursor<'_>> {
    let (first, after) = cursor.punct()?;
    let (second, after) = after.punct()?;
    (first.as_char() == ':' && second.as_char() == ':').then_some(after)
}

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if !is_test(&item.attrs) {
            assert!(
                item.content.is_none(),
                "`mod {}` has no file of its own: its paths are not understood here",
                item.ident
            );
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if !is_test(&item.attrs) {
            self.found.extend(leaves(&item.tree).into_iter().map(|(path, _)| path));
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        if !is_test(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        if !is_test(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }

    /// `pub(super)` names who may use something, not what is used.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.keep(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.visit_tokens(TokenBuffer::new2(item.tokens.clone()).begin());
        visit::visit_macro(self, item);
    }
}
