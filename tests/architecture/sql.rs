//! SQL is never built at run time: each text that a database receives is a literal or a constant.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned as _;
use syn::visit::{self, Visit};
use syn::{
    Block, Expr, ExprCall, ExprClosure, ExprForLoop, ExprMethodCall, FnArg, ImplItemFn, Item, ItemFn, Lit,
    Local, Macro, Member, Pat, Signature, Stmt, TraitItemFn, Type,
};

use crate::graph::Graph;
use crate::modules::{self, House};

/// Methods of the database drivers that take a statement, and the position of that argument.
const ASKING: &[(&str, usize)] = &[
    ("batch_execute", 0),
    ("execute", 0),
    ("execute_batch", 0),
    ("execute_raw", 0),
    ("execute_typed", 0),
    ("pragma_query", 1),
    ("pragma_query_value", 1),
    ("pragma_update", 1),
    ("prepare", 0),
    ("prepare_cached", 0),
    ("prepare_typed", 0),
    ("prepare_typed_cached", 0),
    ("prepare_with_flags", 0),
    ("query", 0),
    ("query_and_then", 0),
    ("query_map", 0),
    ("query_one", 0),
    ("query_opt", 0),
    ("query_raw", 0),
    ("query_row", 0),
    ("query_row_and_then", 0),
    ("query_typed", 0),
    ("query_typed_raw", 0),
    ("simple_query", 0),
    ("simple_query_raw", 0),
];

/// Methods among them with unambiguous names. They must not be called by path, as in `Client::execute(client, sql)`,
/// because that hides the statement.
const BY_PATH: &[&str] = &["batch_execute", "execute_batch", "prepare_cached", "query_row", "simple_query"];

/// Methods that turn a list of constants into constants.
const PASSING: &[&str] = &["copied", "get", "iter", "skip", "take"];

/// The packages that use databases. No other package may use a driver.
const STORES: &[&str] = &["crates/postgres", "crates/sqlite"];

const DRIVERS: &[&str] = &["deadpool_postgres", "rusqlite", "tokio_postgres"];

/// Allowed texts that are not constants: package, file, function, the text's name, and the reason. An entry that is
/// no longer needed must be removed.
const EXCEPTIONS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "crates/postgres",
        "listener.rs",
        "hear",
        "word",
        "LISTEN takes no parameters: the name of the schema, a-z 0-9 _ only",
    ),
    (
        "crates/postgres",
        "session.rs",
        "batch",
        "in_schema()",
        "a constant, in which the name of the schema stands: a-z 0-9 _ only",
    ),
    ("crates/postgres", "session.rs", "execute", "in_schema()", "the same"),
    ("crates/postgres", "session.rs", "query", "in_schema()", "the same"),
    (
        "crates/postgres",
        "session.rs",
        "in_transaction",
        "begin",
        "SET takes no parameters: a constant, in which milliseconds stand",
    ),
];

/// A text that a database receives and that is neither a literal nor a constant.
struct Made {
    file: String,
    function: String,
    line: usize,
    given: String,
    what: String,
}

/// The violations of a package, such as `crates/sqlite`; the root is `.`.
pub(crate) fn put_together(package: &str, house: &House, graph: &Graph) -> Vec<String> {
    let constants = constants(house);
    let mut made = Vec::new();
    for module in &house.modules {
        let mut reader = Reader {
            asks: STORES.contains(&package),
            file: &module.file,
            constants: &constants,
            function: String::new(),
            bound: BTreeMap::new(),
            made: &mut made,
        };
        module.items.iter().for_each(|item| reader.visit_item(item));
    }
    let exceptions: Vec<_> = EXCEPTIONS.iter().filter(|exception| exception.0 == package).collect();
    let is = |made: &Made, (_, file, function, given, _): &(&str, &str, &str, &str, &str)| {
        made.file == *file && made.function == *function && made.given == *given
    };
    let mut wrong: Vec<_> = made
        .iter()
        .filter(|made| !exceptions.iter().any(|exception| is(made, exception)))
        .map(|made| format!("{}:{} in `{}`: {}", made.file, made.line, made.function, made.what))
        .collect();
    for exception in exceptions.iter().filter(|exception| !made.iter().any(|made| is(made, exception))) {
        let (_, file, function, given, _) = exception;
        wrong.push(format!("{file} has no {given} in `{function}` any more: take it from the exceptions"));
    }
    for foreign in graph.foreign.iter().filter(|_| !STORES.contains(&package)) {
        if foreign.path.iter().any(|part| DRIVERS.contains(&part.as_str())) {
            let what = foreign.written();
            wrong.push(format!("{}:{} names {what}: only stores ask databases", foreign.file, foreign.line));
        }
    }
    wrong
}

/// The names of all constants. A value that is computed at compile time cannot come from a request.
fn constants(house: &House) -> BTreeSet<String> {
    struct Constants(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Constants {
        fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
            self.0.insert(item.ident.to_string());
        }
        fn visit_impl_item_const(&mut self, item: &'ast syn::ImplItemConst) {
            self.0.insert(item.ident.to_string());
        }
        fn visit_trait_item_const(&mut self, item: &'ast syn::TraitItemConst) {
            self.0.insert(item.ident.to_string());
        }
        fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
            // A `LazyLock` does not count, because it is filled at run time.
            if let Type::Reference(_) = &*item.ty {
                self.0.insert(item.ident.to_string());
            }
        }
    }
    let mut constants = Constants(BTreeSet::new());
    for module in &house.modules {
        module.items.iter().for_each(|item| constants.visit_item(item));
    }
    constants.0
}

/// What is known about a local name.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    /// A text from compile time, or a list of such texts.
    Constant,
    /// A prepared statement; its text is checked where it is prepared.
    Statement,
    Other,
}

struct Reader<'h> {
    asks: bool,
    file: &'h str,
    constants: &'h BTreeSet<String>,
    function: String,
    bound: BTreeMap<String, Bound>,
    made: &'h mut Vec<Made>,
}

impl Reader<'_> {
    fn found(&mut self, line: usize, given: String, what: String) {
        let (file, function) = (self.file.to_owned(), self.function.clone());
        self.made.push(Made { file, function, line, given, what });
    }

    fn in_function(&mut self, signature: &Signature, read: impl FnOnce(&mut Self)) {
        let function = std::mem::replace(&mut self.function, signature.ident.to_string());
        let bound = self.bound.clone();
        for input in &signature.inputs {
            if let FnArg::Typed(input) = input {
                self.bind(&input.pat, of_type(&input.ty));
            }
        }
        read(self);
        self.function = function;
        self.bound = bound;
    }

    /// All names of a pattern. Only a pattern that is a single name is bound to the value itself.
    fn bind(&mut self, pattern: &Pat, what: Bound) {
        struct Names(Vec<String>);
        impl<'ast> Visit<'ast> for Names {
            fn visit_pat_ident(&mut self, name: &'ast syn::PatIdent) {
                self.0.push(name.ident.to_string());
                visit::visit_pat_ident(self, name);
            }
        }
        match pattern {
            Pat::Ident(name) => drop(self.bound.insert(name.ident.to_string(), what)),
            Pat::Type(typed) => self.bind(&typed.pat, what),
            other => {
                let mut names = Names(Vec::new());
                names.visit_pat(other);
                self.bound.extend(names.0.into_iter().map(|name| (name, Bound::Other)));
            }
        }
    }

    fn kind(&self, text: &Expr) -> Bound {
        let both = |one: Bound, other: Bound| if one == other { one } else { Bound::Other };
        match text {
            Expr::Lit(literal) if matches!(literal.lit, Lit::Str(_)) => Bound::Constant,
            Expr::Reference(inner) => self.kind(&inner.expr),
            Expr::Paren(inner) => self.kind(&inner.expr),
            Expr::Group(inner) => self.kind(&inner.expr),
            Expr::Try(inner) => self.kind(&inner.expr),
            Expr::Await(inner) => self.kind(&inner.base),
            Expr::Block(inner) => self.kind_of_block(&inner.block),
            Expr::Index(inner) => self.kind(&inner.expr),
            Expr::Array(inner) => {
                inner.elems.iter().map(|one| self.kind(one)).reduce(both).unwrap_or(Bound::Other)
            }
            Expr::If(choice) => match &choice.else_branch {
                Some((_, other)) => both(self.kind_of_block(&choice.then_branch), self.kind(other)),
                None => Bound::Other,
            },
            Expr::Match(choice) => {
                choice.arms.iter().map(|arm| self.kind(&arm.body)).reduce(both).unwrap_or(Bound::Other)
            }
            Expr::Macro(called) => {
                let known = ["concat", "include_str"].iter().any(|known| called.mac.path.is_ident(known));
                if known { Bound::Constant } else { Bound::Other }
            }
            Expr::Path(path) => match path.path.segments.last() {
                Some(last) if self.constants.contains(&last.ident.to_string()) => Bound::Constant,
                Some(last) if path.path.segments.len() == 1 => {
                    self.bound.get(&last.ident.to_string()).copied().unwrap_or(Bound::Other)
                }
                _ => Bound::Other,
            },
            Expr::MethodCall(call) => {
                let method = call.method.to_string();
                if method.starts_with("prepare") {
                    Bound::Statement
                } else if PASSING.contains(&method.as_str()) {
                    self.kind(&call.receiver)
                } else {
                    Bound::Other
                }
            }
            _ => Bound::Other,
        }
    }

    fn kind_of_block(&self, block: &Block) -> Bound {
        match block.stmts.as_slice() {
            [Stmt::Expr(expression, None)] => self.kind(expression),
            _ => Bound::Other,
        }
    }
}

/// `&'static str`, and lists of it.
fn of_type(of: &Type) -> Bound {
    let Type::Reference(reference) = of else { return Bound::Other };
    let is_static = reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
    let is_text = match &*reference.elem {
        Type::Path(path) => path.path.is_ident("str"),
        Type::Slice(slice) => return of_type(&slice.elem),
        _ => false,
    };
    if is_static && is_text { Bound::Constant } else { Bound::Other }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !modules::is_for_tests(modules::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.in_function(&function.sig, |reader| visit::visit_item_fn(reader, function));
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.in_function(&function.sig, |reader| visit::visit_impl_item_fn(reader, function));
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        self.in_function(&function.sig, |reader| visit::visit_trait_item_fn(reader, function));
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        for input in &closure.inputs {
            let what = if let Pat::Type(typed) = input { of_type(&typed.ty) } else { Bound::Other };
            self.bind(input, what);
        }
        visit::visit_expr_closure(self, closure);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        visit::visit_local(self, local);
        let what = local.init.as_ref().map_or(Bound::Other, |init| self.kind(&init.expr));
        self.bind(&local.pat, what);
    }

    fn visit_expr_for_loop(&mut self, each: &'ast ExprForLoop) {
        let what = self.kind(&each.expr);
        self.bind(&each.pat, what);
        visit::visit_expr_for_loop(self, each);
    }

    /// A name that is assigned later is no longer known.
    fn visit_expr_assign(&mut self, assigned: &'ast syn::ExprAssign) {
        visit::visit_expr_assign(self, assigned);
        if let Expr::Path(path) = &*assigned.left
            && let Some(name) = path.path.get_ident()
            && self.kind(&assigned.right) != Bound::Constant
        {
            self.bound.insert(name.to_string(), Bound::Other);
        }
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        visit::visit_expr_method_call(self, call);
        let method = call.method.to_string();
        let place = ASKING.iter().find(|(name, _)| method == *name).map(|(_, place)| *place);
        if let Some(text) = place.and_then(|place| call.args.iter().nth(place))
            && self.asks
            && self.kind(&call.receiver) != Bound::Statement
            && self.kind(text) == Bound::Other
        {
            let given = shown(text);
            let what = format!("`{method}` is given {given}, which is neither a literal nor a constant");
            self.found(call.method.span().start().line, given, what);
        }
    }

    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        visit::visit_expr_call(self, call);
        if let Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
            && self.asks
            && BY_PATH.contains(&last.ident.to_string().as_str())
        {
            let what = format!("`{}` is called by its path: these checks want a method call", last.ident);
            self.found(last.ident.span().start().line, last.ident.to_string(), what);
        }
    }

    /// Finds SQL in the arguments of a formatting macro, whatever the result is used for.
    fn visit_macro(&mut self, called: &'ast Macro) {
        visit::visit_macro(self, called);
        let name = called.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default();
        if ["format", "format_args", "write", "writeln"].contains(&name.as_str())
            && has_sql(called.tokens.clone())
        {
            let line = called.path.span().start().line;
            self.found(line, format!("{name}!"), format!("`{name}!` puts SQL together"));
        }
        if self.asks {
            self.tokens(called.tokens.clone());
        }
    }
}

impl Reader<'_> {
    /// Calls inside a macro: the statement must be one literal or one constant.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (at, token) in tokens.iter().enumerate() {
            if let TokenTree::Group(group) = token {
                self.tokens(group.stream());
            }
            let [TokenTree::Punct(dot), TokenTree::Ident(method), TokenTree::Group(arguments), ..] =
                &tokens[at..]
            else {
                continue;
            };
            let place = ASKING.iter().find(|(name, _)| method == name).map(|(_, place)| *place);
            let (Some(place), '.') = (place, dot.as_char()) else { continue };
            let arguments: Vec<TokenTree> = arguments.stream().into_iter().collect();
            let is_comma =
                |token: &TokenTree| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ',');
            let is_constant = match arguments.split(is_comma).nth(place).unwrap_or_default() {
                [] | [TokenTree::Literal(_)] => true,
                [TokenTree::Ident(name)] => self.constants.contains(&name.to_string()),
                _ => false,
            };
            if !is_constant {
                let what = format!("`{method}`, inside a macro, is given neither a literal nor a constant");
                self.found(method.span().start().line, method.to_string(), what);
            }
        }
    }
}

fn has_sql(tokens: TokenStream) -> bool {
    tokens.into_iter().any(|token| match token {
        TokenTree::Group(group) => has_sql(group.stream()),
        TokenTree::Literal(literal) => {
            let words = ["SELECT", "INSERT", "UPDATE", "DELETE", "PRAGMA"];
            words.iter().any(|word| literal.to_string().contains(word))
        }
        _ => false,
    })
}

/// A short name for an expression, for the report.
fn shown(text: &Expr) -> String {
    match text {
        Expr::Reference(inner) => shown(&inner.expr),
        Expr::Paren(inner) => shown(&inner.expr),
        Expr::Path(path) => {
            path.path.segments.iter().map(|part| part.ident.to_string()).collect::<Vec<_>>().join("::")
        }
        Expr::Macro(called) => {
            called.mac.path.segments.last().map(|last| format!("{}!", last.ident)).unwrap_or_default()
        }
        Expr::Call(call) => format!("{}()", shown(&call.func)),
        Expr::MethodCall(call) => format!("{}()", call.method),
        Expr::Field(field) => match &field.member {
            Member::Named(name) => name.to_string(),
            Member::Unnamed(_) => "a field".to_owned(),
        },
        Expr::Binary(_) => "a sum".to_owned(),
        _ => "an expression".to_owned(),
    }
}
