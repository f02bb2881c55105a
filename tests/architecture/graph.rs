//! Which file imports which: every path in the source, resolved to the file that defines its target.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{
    Attribute, ImplItem, Item, ItemMod, ItemUse, LitStr, Macro, Meta, TraitItem, UseTree, VisRestricted,
};

use crate::modules::{self, House, Id, ROOT};

/// A path in the source. A leading `::`, also one after `<Type>`, is its first part.
#[derive(Debug)]
pub(crate) struct Mention {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
}

impl Mention {
    pub(crate) fn written(&self) -> String {
        self.path.join("::").replacen("::::", "::", 1)
    }
}

/// A file that names something which another file defines.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) from: String,
    pub(crate) line: usize,
    pub(crate) to: String,
    pub(crate) item: String,
    /// Whether the first file depends on the second. Re-exports and names of modules do not count; what is then taken
    /// from the module does.
    pub(crate) needs: bool,
}

impl Import {
    pub(crate) fn between_rooms(&self) -> Option<(&str, &str)> {
        let (from, to) = (House::room_of(&self.from), House::room_of(&self.to));
        (from != to).then_some((from, to))
    }
}

impl fmt::Display for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} takes {} from {}", self.from, self.line, self.item, self.to)
    }
}

#[derive(Default)]
pub(crate) struct Graph {
    pub(crate) imports: Vec<Import>,
    pub(crate) mentions: Vec<Mention>,
    /// Names that may be other crates. Not all of them are: `Vec::new` gives `Vec`.
    pub(crate) foreign: Vec<Mention>,
    pub(crate) wrong: Vec<String>,
}

/// The edges between files, and the items that cause them.
pub(crate) type Edges = BTreeMap<(String, String), BTreeSet<String>>;

impl Graph {
    pub(crate) fn of(house: &House) -> Self {
        let mut graph = Self { wrong: house.wrong.clone(), ..Self::default() };
        for (id, module) in house.modules.iter().enumerate() {
            let mut reader = Reader { house, module: id, graph: &mut graph };
            module.items.iter().for_each(|item| reader.visit_item(item));
        }
        graph
    }

    pub(crate) fn edges_of_files(&self) -> Edges {
        let mut edges = Edges::new();
        for import in self.imports.iter().filter(|import| import.needs) {
            let ends = (import.from.clone(), import.to.clone());
            edges.entry(ends).or_default().insert(import.item.clone());
        }
        edges
    }
}

struct Reader<'h> {
    house: &'h House,
    module: Id,
    graph: &'h mut Graph,
}

#[derive(Clone, Copy, PartialEq)]
enum By {
    Use,
    ReExport,
    Path,
    Macro,
}

impl Reader<'_> {
    fn file(&self) -> &str {
        &self.house.modules[self.module].file
    }

    fn wrong(&mut self, line: usize, what: &str) {
        let what = format!("{}:{line} {what}", self.file());
        self.graph.wrong.push(what);
    }

    /// A path in this module.
    fn path(&mut self, path: Vec<String>, line: usize, by: By) {
        let (file, house) = (self.file().to_owned(), self.house);
        if ["lib.rs", "main.rs"].contains(&&*file) {
            return;
        }
        if let ([name], By::Path | By::Macro) = (path.as_slice(), by) {
            // Imported names count where they are imported. Re-exports do not, so re-exported names count where they
            // are used.
            let reexports: Vec<_> = house.reexports(self.module, name).cloned().collect();
            for leaf in reexports {
                self.leads(&leaf.path, line, By::Path);
            }
            return;
        }
        self.leads(&path, line, by);
        self.graph.mentions.push(Mention { file, line, path });
    }

    fn leads(&mut self, path: &[String], line: usize, by: By) {
        let (file, house) = (self.file().to_owned(), self.house);
        let is_glob = path.last().is_some_and(|last| last == "*");
        let path = if is_glob { &path[..path.len() - 1] } else { path };
        let targets = house.resolve(self.module, path);
        if targets.is_empty()
            && path.first().is_some_and(|first| !["crate", "self", "super"].contains(&first.as_str()))
        {
            self.graph.foreign.push(Mention { file, line, path: path.to_vec() });
            return;
        }
        if let Some(name) = self.through_the_root(path) {
            self.wrong(
                line,
                &format!("imports {name} through the crate's root, not from where it is defined"),
            );
        }
        for target in targets {
            let to = house.modules[target.module].file.clone();
            if is_glob && target.item.is_none() {
                self.wrong(line, &format!("imports `*` of {to}: what it takes must be named"));
            }
            if to == file {
                continue;
            }
            let needs = match by {
                By::Use | By::Path => target.item.is_some(),
                // What a macro does with a module in its arguments is unknown.
                By::Macro => true,
                By::ReExport => false,
            };
            let item = target.item.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
            let import = Import { from: file.clone(), line, to, item, needs };
            let inside = import.between_rooms().is_none();
            // Re-exports within a room only build the room, so they are not imports.
            if needs || !inside {
                self.graph.imports.push(import);
            }
        }
    }

    /// The name, if the path takes from the crate's root something that the root only re-exports.
    fn through_the_root(&self, path: &[String]) -> Option<String> {
        let is_root = |path: &[String]| {
            self.house.resolve(self.module, path).iter().any(|at| at.module == ROOT && at.item.is_none())
        };
        let is_item = |name: &String| {
            let taken = self.house.resolve(ROOT, &["crate".to_owned(), name.clone()]);
            taken.iter().any(|target| target.item.is_some())
        };
        let taken = (1..path.len()).rev().find(|at| is_root(&path[..*at]) && is_item(&path[*at]))?;
        path.get(taken).cloned()
    }

    /// Everything that looks like a path among the tokens of a macro or an attribute.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, what: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == what);
        let is_colons = |at: usize| is(at, ':') && is(at + 1, ':');
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                // `.name` is a field or a method, and `$name` comes from the caller of the macro.
                TokenTree::Ident(first)
                    if *first == "crate" || at == 0 || !(is(at - 1, '.') || is(at - 1, '$')) =>
                {
                    let line = first.span().start().line;
                    let mut path = vec![first.to_string()];
                    if at >= 2 && is_colons(at - 2) {
                        path.insert(0, "::".to_owned());
                    }
                    while is_colons(at + 1) {
                        match tokens.get(at + 3) {
                            Some(TokenTree::Ident(next)) => path.push(next.to_string()),
                            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                                self.group(&path, group.stream(), line);
                                break;
                            }
                            _ => break,
                        }
                        at += 3;
                    }
                    self.path(path, line, By::Macro);
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// The `{a, b::c}` of a `use` inside a macro.
    fn group(&mut self, start: &[String], tokens: TokenStream, line: usize) {
        let trees = Punctuated::<UseTree, syn::Token![,]>::parse_terminated.parse2(tokens);
        let mut found = Vec::new();
        for tree in trees.into_iter().flatten() {
            modules::tree_leaves(&tree, start, &mut found);
        }
        for leaf in found {
            self.path(leaf.path, line, By::Macro);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !modules::is_for_tests(modules::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        if !modules::is_for_tests(modules::attributes_in_impl(item)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        if !modules::is_for_tests(modules::attributes_in_trait(item)) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        let line = module.ident.span().start().line;
        self.wrong(line, "has a module inside a function, into which these checks do not look");
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        for leaf in modules::leaves(item) {
            let by = if leaf.is_reexport { By::ReExport } else { By::Use };
            self.path(leaf.path, leaf.line, by);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let start = path.leading_colon.map(|_| "::".to_owned());
        let parts = path.segments.iter().map(|segment| segment.ident.to_string());
        if let Some(first) = path.segments.first() {
            self.path(start.into_iter().chain(parts).collect(), first.ident.span().start().line, By::Path);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, called: &'ast Macro) {
        self.visit_path(&called.path);
        if called.path.is_ident("include") {
            let line = called.path.segments[0].ident.span().start().line;
            self.wrong(line, "includes code, into which these checks do not look");
        }
        self.tokens(called.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if attribute.path().is_ident("doc") || attribute.path().is_ident("cfg") {
            return;
        }
        match &attribute.meta {
            Meta::List(list) => {
                self.visit_path(&list.path);
                self.tokens(list.tokens.clone());
                self.paths_in_strings(list.tokens.clone());
            }
            other => visit::visit_meta(self, other),
        }
    }

    /// `pub(super)` and `pub(in path)` say who may import, but import nothing.
    fn visit_vis_restricted(&mut self, _: &'ast VisRestricted) {}
}

impl Reader<'_> {
    /// `#[serde(with = "crate::time")]` also names a path.
    fn paths_in_strings(&mut self, tokens: TokenStream) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => self.paths_in_strings(group.stream()),
                TokenTree::Literal(literal) => {
                    let Ok(text) = syn::parse_str::<LitStr>(&literal.to_string()) else { continue };
                    let text = text.value();
                    if ["crate::", "super::", "self::"].iter().any(|start| text.starts_with(start)) {
                        let path = text.split("::").map(str::to_owned).collect();
                        self.path(path, literal.span().start().line, By::Macro);
                    }
                }
                _ => {}
            }
        }
    }
}
