//! Pages, parsed by an HTML5 parser.

use std::cell::RefCell;
use std::collections::BTreeMap;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{BufferQueue, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer};

/// An element, or text between two elements.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The text that follows, up to the next tag.
    pub(crate) text: String,
}

#[derive(Default)]
struct Sink(RefCell<Vec<Element>>);

impl TokenSink for Sink {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut seen = self.0.borrow_mut();
        match token {
            Token::TagToken(tag) => {
                let name = tag.name.to_string();
                let end = tag.kind == TagKind::EndTag;
                let attributes = tag
                    .attrs
                    .iter()
                    .map(|attr| (attr.name.local.to_string(), attr.value.to_string()))
                    .collect();
                let shown = if end { format!("/{name}") } else { name.clone() };
                seen.push(Element { name: shown, attributes, text: String::new() });
                // What a tree builder would report to the tokenizer.
                match &*name {
                    "title" | "textarea" if !end => return TokenSinkResult::RawData(RawKind::Rcdata),
                    "script" if !end => return TokenSinkResult::RawData(RawKind::ScriptData),
                    "style" if !end => return TokenSinkResult::RawData(RawKind::Rawtext),
                    _ => {}
                }
            }
            Token::CharacterTokens(text) => {
                if let Some(last) = seen.last_mut() {
                    last.text.push_str(&text);
                }
            }
            Token::CommentToken(comment) => panic!("a comment: {comment}"),
            Token::ParseError(error) => panic!("not well-formed: {error}"),
            Token::DoctypeToken(_) | Token::NullCharacterToken | Token::EOFToken => {}
        }
        TokenSinkResult::Continue
    }
}

pub(crate) fn parse(page: &str) -> Vec<Element> {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from(page));
    let tokenizer = Tokenizer::new(Sink::default(), Default::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    tokenizer.sink.0.take()
}

/// The structure of a page without text: names of elements and attributes.
pub(crate) fn structure(page: &str) -> Vec<(String, Vec<String>)> {
    parse(page).into_iter().map(|element| (element.name, element.attributes.into_keys().collect())).collect()
}

pub(crate) fn find<'e>(elements: &'e [Element], id: &str) -> &'e Element {
    let found = elements.iter().find(|element| element.attributes.get("id").is_some_and(|is| is == id));
    found.unwrap_or_else(|| panic!("nothing is called {id}"))
}

/// The hidden fields of a page's form.
pub(crate) fn sealed(page: &str) -> Vec<(String, String)> {
    let hidden = parse(page).into_iter().filter(|element| {
        element.name == "input" && element.attributes.get("type").is_some_and(|kind| kind == "hidden")
    });
    let fields: Vec<_> = hidden
        .map(|mut element| {
            (element.attributes.remove("name").unwrap(), element.attributes.remove("value").unwrap())
        })
        .collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
    assert!(
        matches!(names[..], ["ticket", "proof", "draft"] | ["ticket", "proof", "draft", "seen"]),
        "{names:?}"
    );
    fields
}

/// The secret on a page.
pub(crate) fn secret(page: &str) -> String {
    find(&parse(page), "secret").text.clone()
}
