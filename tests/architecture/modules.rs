//! Reads a crate as a tree of modules: the file and the items of each, and what its names refer to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, ItemUse, Meta, Token, TraitItem, UseTree, Visibility};

/// A module, as an index into [`House::modules`]; the first is the crate's root.
pub(crate) type Id = usize;

pub(crate) const ROOT: Id = 0;

/// The source of a crate, without code that is compiled only for tests.
#[derive(Default)]
pub(crate) struct House {
    pub(crate) modules: Vec<Module>,
    /// The number of lines of code in each file, without blank lines, comments and tests.
    pub(crate) lines: BTreeMap<String, usize>,
    /// Constructs that these checks cannot analyse, and which are therefore not allowed.
    pub(crate) wrong: Vec<String>,
    /// Files and folders, without file extension, of modules that are compiled only for tests.
    tests: BTreeSet<String>,
}

pub(crate) struct Module {
    /// For example `store/mod.rs`. A module in braces has the file of its parent.
    pub(crate) file: String,
    pub(crate) items: Vec<Item>,
    parent: Id,
    names: BTreeMap<String, Vec<Meaning>>,
}

enum Meaning {
    Module(Id),
    /// Another item that is defined in this module.
    Item,
    Import(Leaf),
}

/// One name of a `use`.
#[derive(Clone)]
pub(crate) struct Leaf {
    /// A glob ends with `*`; an explicit path into another crate begins with `::`.
    pub(crate) path: Vec<String>,
    pub(crate) name: String,
    pub(crate) line: usize,
    pub(crate) is_reexport: bool,
}

/// The target of a path: an item of a module, or the module itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) module: Id,
    pub(crate) item: Option<String>,
}

impl House {
    pub(crate) fn read(src: &Path) -> Self {
        let mut house = Self::default();
        let root = if src.join("lib.rs").is_file() { "lib.rs" } else { "main.rs" };
        house.read_file(src, root.to_owned(), ROOT);
        house.look_for_strays(src, "");
        house
    }

    /// The room of a file: the first part of its path below `src/`.
    pub(crate) fn room_of(file: &str) -> &str {
        let top = file.split('/').next().unwrap_or(file);
        top.trim_end_matches(".rs")
    }

    fn read_file(&mut self, src: &Path, file: String, parent: Id) -> Id {
        let text = fs::read_to_string(src.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let items = syn::parse_file(&text).unwrap_or_else(|error| panic!("{file}: {error}")).items;
        self.lines.insert(file.clone(), lines_of_code(&text, &items));
        let folder = match ["mod.rs", "lib.rs", "main.rs"].iter().find_map(|name| file.strip_suffix(name)) {
            Some(folder) => folder.to_owned(),
            None => format!("{}/", file.trim_end_matches(".rs")),
        };
        self.read_module(src, file, &folder, items, parent)
    }

    fn read_module(&mut self, src: &Path, file: String, folder: &str, items: Vec<Item>, parent: Id) -> Id {
        let id = self.modules.len();
        let names = BTreeMap::new();
        self.modules.push(Module { file: file.clone(), items: Vec::new(), parent, names });
        let mut kept = Vec::new();
        for item in items {
            let for_tests = is_for_tests(attributes(&item));
            match item {
                Item::Mod(module) => {
                    let name = module.ident.to_string();
                    if for_tests {
                        self.tests.insert(format!("{folder}{name}"));
                        continue;
                    }
                    let odd = |attribute: &&Attribute| {
                        ["path", "macro_use"].iter().any(|odd| attribute.path().is_ident(odd))
                    };
                    if module.attrs.iter().any(|attribute| odd(&attribute)) {
                        self.wrong.push(format!(
                            "{file} declares `{name}` with `path` or `macro_use`: these checks follow neither"
                        ));
                    }
                    let child = match module.content {
                        Some((_, items)) => {
                            self.read_module(src, file.clone(), &format!("{folder}{name}/"), items, id)
                        }
                        None => {
                            let flat = format!("{folder}{name}.rs");
                            let nested = format!("{folder}{name}/mod.rs");
                            self.read_file(src, if src.join(&flat).is_file() { flat } else { nested }, id)
                        }
                    };
                    self.bind(id, name, Meaning::Module(child));
                }
                _ if for_tests => {}
                item => {
                    if let Item::ExternCrate(_) = item {
                        self.wrong
                            .push(format!("{file} has an `extern crate`, which gives a crate a second name"));
                    }
                    kept.push(item);
                }
            }
        }
        for item in &kept {
            if let Some(name) = defined_by(item) {
                self.bind(id, name, Meaning::Item);
            }
        }
        for leaf in imports_of(&kept) {
            self.bind(id, leaf.name.clone(), Meaning::Import(leaf));
        }
        self.modules[id].items = kept;
        id
    }

    fn bind(&mut self, id: Id, name: String, meaning: Meaning) {
        self.modules[id].names.entry(name).or_default().push(meaning);
    }

    /// Reports files that belong to no module: they are not compiled, or this check did not find and analyse them.
    fn look_for_strays(&mut self, src: &Path, folder: &str) {
        for entry in fs::read_dir(src.join(folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}{}", entry.file_name().to_string_lossy());
            if self.tests.contains(path.trim_end_matches(".rs")) {
                continue;
            }
            if entry.path().is_dir() {
                self.look_for_strays(src, &format!("{path}/"));
            } else if path.ends_with(".rs") && !self.lines.contains_key(&path) {
                self.wrong.push(format!("{path} belongs to no module"));
            }
        }
    }

    /// The re-exports of a name by a module.
    pub(crate) fn reexports(&self, scope: Id, name: &str) -> impl Iterator<Item = &Leaf> {
        let meanings = self.modules[scope].names.get(name).map_or(&[][..], Vec::as_slice);
        meanings.iter().filter_map(|meaning| match meaning {
            Meaning::Import(leaf) if leaf.is_reexport => Some(leaf),
            _ => None,
        })
    }

    /// Resolves a path of a module to its definition, through re-exports and aliases. Empty for a path into another
    /// crate.
    pub(crate) fn resolve(&self, scope: Id, path: &[String]) -> Vec<Target> {
        self.follow(scope, path, &mut BTreeSet::new())
    }

    fn follow(&self, scope: Id, path: &[String], seen: &mut BTreeSet<(Id, Vec<String>)>) -> Vec<Target> {
        if !seen.insert((scope, path.to_vec())) {
            return Vec::new();
        }
        let (mut at, mut rest) = (scope, path);
        while let Some((first, others)) = rest.split_first() {
            at = match first.as_str() {
                "crate" => ROOT,
                "self" => at,
                "super" => self.modules[at].parent,
                _ => break,
            };
            rest = others;
        }
        if rest.len() == path.len()
            && !path.first().is_some_and(|first| self.modules[at].names.contains_key(first))
        {
            return Vec::new();
        }
        self.descend(at, rest, seen)
    }

    fn descend(&self, at: Id, path: &[String], seen: &mut BTreeSet<(Id, Vec<String>)>) -> Vec<Target> {
        let Some((name, rest)) = path.split_first() else { return vec![Target { module: at, item: None }] };
        let item = Target { module: at, item: Some(name.clone()) };
        // A name without a definition in the syntax was made by a macro of that module.
        let Some(meanings) = self.modules[at].names.get(name) else { return vec![item] };
        let is_module = |meaning: &Meaning| matches!(meaning, Meaning::Module(_));
        // A module and a function may have the same name; what follows decides.
        let only_modules = !rest.is_empty() && meanings.iter().any(is_module);
        let mut targets = Vec::new();
        for meaning in meanings.iter().filter(|meaning| !only_modules || is_module(meaning)) {
            match meaning {
                Meaning::Module(module) => targets.extend(self.descend(*module, rest, seen)),
                Meaning::Item => targets.push(item.clone()),
                Meaning::Import(leaf) => {
                    for target in self.follow(at, &leaf.path, seen) {
                        match target.item {
                            None => targets.extend(self.descend(target.module, rest, seen)),
                            Some(_) => targets.push(target),
                        }
                    }
                }
            }
        }
        targets
    }
}

/// All names that these `use` items import, including `use` inside functions.
fn imports_of(items: &[Item]) -> Vec<Leaf> {
    struct Uses(Vec<Leaf>);
    impl<'ast> Visit<'ast> for Uses {
        fn visit_item(&mut self, item: &'ast Item) {
            if !is_for_tests(attributes(item)) {
                visit::visit_item(self, item);
            }
        }
        fn visit_item_use(&mut self, item: &'ast ItemUse) {
            self.0.extend(leaves(item));
        }
    }
    let mut uses = Uses(Vec::new());
    items.iter().for_each(|item| uses.visit_item(item));
    uses.0
}

pub(crate) fn leaves(item: &ItemUse) -> Vec<Leaf> {
    let mut found = Vec::new();
    let start = if item.leading_colon.is_some() { vec!["::".to_owned()] } else { Vec::new() };
    tree_leaves(&item.tree, &start, &mut found);
    for leaf in &mut found {
        leaf.is_reexport = !matches!(item.vis, Visibility::Inherited);
    }
    found
}

pub(crate) fn tree_leaves(tree: &UseTree, start: &[String], found: &mut Vec<Leaf>) {
    let longer = |name: String| start.iter().cloned().chain([name]).collect::<Vec<_>>();
    let mut leaf = |path: Vec<String>, name: String, line| {
        found.push(Leaf { path, name, line, is_reexport: false });
    };
    match tree {
        UseTree::Path(path) => tree_leaves(&path.tree, &longer(path.ident.to_string()), found),
        UseTree::Group(group) => group.items.iter().for_each(|tree| tree_leaves(tree, start, found)),
        UseTree::Glob(glob) => leaf(longer("*".to_owned()), "*".to_owned(), glob.span().start().line),
        UseTree::Name(name) => {
            let line = name.ident.span().start().line;
            match name.ident.to_string() {
                itself if itself == "self" => {
                    leaf(start.to_vec(), start.last().cloned().unwrap_or(itself), line)
                }
                name => leaf(longer(name.clone()), name, line),
            }
        }
        UseTree::Rename(rename) => {
            let path = match rename.ident.to_string() {
                itself if itself == "self" => start.to_vec(),
                name => longer(name),
            };
            leaf(path, rename.rename.to_string(), rename.ident.span().start().line);
        }
    }
}

fn defined_by(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Whether an item is compiled only for tests.
pub(crate) fn is_for_tests(attributes: &[Attribute]) -> bool {
    fn needs_test(meta: &Meta) -> bool {
        let parts = || match meta {
            Meta::List(list) => list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).ok(),
            _ => None,
        };
        if meta.path().is_ident("all") {
            parts().is_some_and(|parts| parts.iter().any(needs_test))
        } else if meta.path().is_ident("any") {
            parts().is_some_and(|parts| !parts.is_empty() && parts.iter().all(needs_test))
        } else {
            matches!(meta, Meta::Path(path) if path.is_ident("test") || path.is_ident("doctest"))
        }
    }
    let conditions = attributes.iter().filter(|attribute| attribute.path().is_ident("cfg"));
    conditions.filter_map(|attribute| attribute.parse_args::<Meta>().ok()).any(|meta| needs_test(&meta))
}

macro_rules! attributes_of {
    ($kind:ident, $node:expr, $($variant:ident)*) => {
        match $node {
            $($kind::$variant(node) => &node.attrs,)*
            _ => &[],
        }
    };
}

pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    attributes_of!(Item, item, Const Enum ExternCrate Fn ForeignMod Impl Macro Mod Static Struct Trait TraitAlias Type Union Use)
}

pub(crate) fn attributes_in_impl(item: &ImplItem) -> &[Attribute] {
    attributes_of!(ImplItem, item, Const Fn Type Macro)
}

pub(crate) fn attributes_in_trait(item: &TraitItem) -> &[Attribute] {
    attributes_of!(TraitItem, item, Const Fn Type Macro)
}

fn lines_of_code(text: &str, items: &[Item]) -> usize {
    let tests: Vec<_> = items
        .iter()
        .filter(|item| is_for_tests(attributes(item)))
        .map(|item| item.span().start().line..=item.span().end().line)
        .collect();
    let is_code = |(index, line): &(usize, &str)| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with("//") && !tests.iter().any(|lines| lines.contains(&(index + 1)))
    };
    text.lines().enumerate().filter(is_code).count()
}
