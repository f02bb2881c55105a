//! Only the room `gate` can accept a request: nothing outside it names a constructor of the evidence.

use syn::visit::Visit;
use syn::{ImplItemFn, Visibility};

use crate::graph::Graph;
use crate::modules::House;

/// The room that accepts requests.
const ROOM: &str = "gate";

/// What makes evidence: the file of the definition, and the constructors, including the one for tests.
pub(crate) const MAKERS: &[(&str, &str)] =
    &[("gate/evidence.rs", "verified"), ("gate/evidence.rs", "of_a_test")];

/// The only exception; it exists only with the feature `test-util`.
const TEST_DOOR: &str = "test_util";

pub(crate) fn named_elsewhere(house: &House, graph: &Graph) -> Vec<String> {
    let mut wrong = Vec::new();
    for (home, maker) in MAKERS {
        // Compares only the name, so that an alias or `Self` hides nothing.
        let names = |path: &[String]| path.len() > 1 && path[1..].iter().any(|part| part == maker);
        for mention in graph.mentions.iter().filter(|mention| names(&mention.path)) {
            let may = mention.file == *home || [ROOM, TEST_DOOR].contains(&House::room_of(&mention.file));
            if !may {
                let what = mention.written();
                wrong.push(format!("{}:{} names {what}, which only {ROOM} may", mention.file, mention.line));
            }
        }
        let mut found = Found { maker, is_there: false, is_public: false };
        for module in house.modules.iter().filter(|module| module.file == *home) {
            module.items.iter().for_each(|item| found.visit_item(item));
        }
        if !found.is_there {
            wrong.push(format!("{home} has no `{maker}`: the list of what makes evidence is out of date"));
        }
        if found.is_public {
            wrong.push(format!("`{maker}` in {home} is public: everybody could make evidence"));
        }
    }
    wrong
}

struct Found {
    maker: &'static str,
    is_there: bool,
    is_public: bool,
}

impl<'ast> Visit<'ast> for Found {
    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if function.sig.ident == self.maker {
            self.is_there = true;
            self.is_public |= matches!(function.vis, Visibility::Public(_));
        }
    }
}
