//! The credentials in a JSON object, read as strictly as `serde_json::Value` reads, and more strictly where two
//! readers could disagree.
//!
//! The rule: whatever is accepted here, `Value` accepts, and both read the same three strings. A derived struct would
//! take `["K", "U", "P"]` for an object; `Value` would take the last of two `apiKey`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config_error::ConfigError;

/// The names of the three members.
#[derive(Clone, Debug)]
pub(super) struct Names([Name; 3]);

#[derive(Clone, Debug)]
struct Name {
    exact: Box<str>,
    folded: Box<str>,
}

impl Names {
    /// As the documents have them.
    pub(super) fn documented() -> Self {
        let name = |exact: &str| Name { exact: exact.into(), folded: exact.to_ascii_lowercase().into() };
        Self(["apiKey", "userId", "projectId"].map(name))
    }

    /// Three names that no fold of letters makes equal.
    pub(super) fn new(names: [&str; 3]) -> Result<Self, ConfigError> {
        let names =
            names.map(|exact| Name { exact: exact.into(), folded: fold(exact).collect::<String>().into() });
        let [key, user, project] = &names;
        let distinct =
            key.folded != user.folded && key.folded != project.folded && user.folded != project.folded;
        if distinct && names.iter().all(|name| !name.folded.is_empty()) {
            Ok(Self(names))
        } else {
            Err(ConfigError::FieldName)
        }
    }
}

/// What some readers of JSON make of a name: letters without case (Go folds the Kelvin sign and the long s, too), and
/// without the separators of other spellings.
fn fold(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|letter| !matches!(letter, '_' | '-')).map(|letter| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    })
}

/// What the object said; `null` says nothing.
#[derive(Debug, Default)]
pub(super) struct Fields<'de> {
    pub(super) key: Option<Cow<'de, str>>,
    /// Whether the key's member is there, whatever it says.
    pub(super) names_key: bool,
    pub(super) user: Option<Cow<'de, str>>,
    pub(super) project: Option<Cow<'de, str>>,
}

/// The text is not a JSON object that says each credential at most once, as a string. What serde says of it is not
/// kept: it quotes values.
#[derive(Debug)]
pub(super) struct NotAnObject;

pub(super) fn read<'de>(text: &'de [u8], names: &Names) -> Result<Fields<'de>, NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let fields = deserializer.deserialize_map(Object(names)).map_err(|_| NotAnObject)?;
    deserializer.end().map_err(|_| NotAnObject)?;
    Ok(fields)
}

struct Object<'n>(&'n Names);

/// One of the three members, while the object is read.
#[derive(Default)]
struct Slot<'de> {
    seen: bool,
    similar: bool,
    text: Option<Cow<'de, str>>,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut slots = [Slot::default(), Slot::default(), Slot::default()];
        while let Some((which, exact)) = members.next_key_seed(MemberName(self.0))?.map(Member::place) {
            let slot = which.and_then(|which| slots.get_mut(which));
            match slot {
                Some(slot) if exact => {
                    if std::mem::replace(&mut slot.seen, true) {
                        return Err(A::Error::custom("a credential is said twice"));
                    }
                    slot.text = members.next_value_seed(OptionalString)?;
                }
                slot => {
                    if let Some(slot) = slot {
                        slot.similar = true;
                    }
                    members.next_value_seed(StrictSkip)?;
                }
            }
        }
        if slots.iter().any(|slot| slot.seen && slot.similar) {
            return Err(A::Error::custom("a credential has a double"));
        }
        let names_key = slots.first().is_some_and(|slot| slot.seen);
        let [key, user, project] = slots.map(|slot| slot.text);
        Ok(Fields { key, names_key, user, project })
    }
}

struct MemberName<'n>(&'n Names);

enum Member {
    Exact(usize),
    Similar(usize),
    Other,
}

impl Member {
    fn place(self) -> (Option<usize>, bool) {
        match self {
            Self::Exact(which) => (Some(which), true),
            Self::Similar(which) => (Some(which), false),
            Self::Other => (None, false),
        }
    }
}

impl<'de> DeserializeSeed<'de> for MemberName<'_> {
    type Value = Member;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Member, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName<'_> {
    type Value = Member;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Member, E> {
        if text.starts_with(PRIVATE) {
            return Err(E::custom("a name of the parser's own"));
        }
        let names = &self.0.0;
        if let Some(which) = names.iter().position(|name| *name.exact == *text) {
            return Ok(Member::Exact(which));
        }
        let similar = names.iter().position(|name| fold(text).eq(name.folded.chars()));
        Ok(similar.map_or(Member::Other, Member::Similar))
    }
}

/// A string or `null`; everything else is an error.
struct OptionalString;

impl<'de> DeserializeSeed<'de> for OptionalString {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for OptionalString {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Passes over a value, and looks at all of it as `Value` would: `IgnoredAny` lets invalid UTF-8, lone surrogates,
/// numbers out of range and any depth pass.
struct StrictSkip;

impl<'de> DeserializeSeed<'de> for StrictSkip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictSkip {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while elements.next_element_seed(Self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(is_number) = members.next_key_seed(SkippedName)? {
            if is_number {
                members.next_value_seed(SkippedNumber)?;
                // `Value` makes a number of it, and looks at no more.
                return match members.next_key_seed(SkippedName)? {
                    Some(_) => Err(A::Error::custom("more than a number")),
                    None => Ok(()),
                };
            }
            members.next_value_seed(Self)?;
        }
        Ok(())
    }
}

/// How the names begin by which serde_json talks to itself, once another crate switches features of it on: `Value` makes
/// something else of an object that has one. axum's `json` switches on `raw_value`.
const PRIVATE: &str = "$serde_json::private::";

/// The name of a member that is passed over: whether it says that a number follows (`arbitrary_precision`).
struct SkippedName;

impl<'de> DeserializeSeed<'de> for SkippedName {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SkippedName {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<bool, E> {
        match text.strip_prefix(PRIVATE) {
            None => Ok(false),
            Some("Number") => Ok(true),
            Some(_) => Err(E::custom("a name of the parser's own")),
        }
    }
}

/// The text of a number, as `arbitrary_precision` hands it on.
struct SkippedNumber;

impl<'de> DeserializeSeed<'de> for SkippedNumber {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SkippedNumber {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        text.parse::<serde_json::Number>().map(drop).map_err(|_| E::custom("not a number"))
    }
}
