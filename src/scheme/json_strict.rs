//! Reads the credentials from a JSON object, as strictly as `serde_json::Value`, and more strictly where two
//! parsers could disagree.
//!
//! The rule: everything that is accepted here is accepted by `Value`, and both read the same three strings. A derived
//! struct would accept `["K", "U", "P"]` as an object; `Value` would take the last of two `apiKey`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::config_error::ConfigError;

/// The names of the three members.
#[derive(Clone, Debug)]
pub(super) struct MemberNames([Name; 3]);

#[derive(Clone, Debug)]
struct Name {
    exact: Box<str>,
    /// What lenient parsers make of it, and the first letter of that.
    folded: Box<str>,
    initial: Option<char>,
}

impl MemberNames {
    /// The names in the source documents.
    pub(super) fn documented() -> Self {
        Self(["apiKey", "userId", "projectId"].map(Name::new))
    }

    /// Creates three names that no parser can confuse, whatever case folding it does.
    pub(super) fn new(names: [&str; 3]) -> Result<Self, ConfigError> {
        let names = names.map(Name::new);
        let [key, user, project] = &names;
        let distinct =
            key.folded != user.folded && key.folded != project.folded && user.folded != project.folded;
        if distinct && names.iter().all(|name| !name.folded.is_empty()) {
            Ok(Self(names))
        } else {
            Err(ConfigError::FieldName)
        }
    }

    /// What a member of this name is; `None` for one of serde_json's own names, which is refused.
    pub(super) fn find(&self, name: &str) -> Option<MemberMatch> {
        if name.starts_with(PRIVATE) {
            return None;
        }
        let Self(names) = self;
        // Nearly all other names already differ in the first letter.
        let initial = fold(name).next();
        for (which, own) in names.iter().enumerate().filter(|(_, own)| own.initial == initial) {
            if *own.exact == *name {
                return Some(MemberMatch::Exact(which));
            }
            if fold(name).eq(own.folded.chars()) {
                return Some(MemberMatch::Similar(which));
            }
        }
        Some(MemberMatch::Other)
    }
}

impl Name {
    fn new(exact: &str) -> Self {
        let folded: String = fold(exact).collect();
        Self { exact: exact.into(), initial: folded.chars().next(), folded: folded.into() }
    }
}

/// Folds a name as lenient JSON parsers do: without case (Go also folds the Kelvin sign and the long s), and
/// without the separators of other spellings.
fn fold(name: &str) -> impl Iterator<Item = char> {
    name.chars().filter(|letter| !matches!(letter, '_' | '-')).map(|letter| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    })
}

/// The credentials found in the object; `null` counts as missing.
#[derive(Debug, Default)]
pub(super) struct Fields<'de> {
    pub(super) key: Option<Cow<'de, str>>,
    /// Whether the key's member exists, whatever its value.
    pub(super) names_key: bool,
    pub(super) user: Option<Cow<'de, str>>,
    pub(super) project: Option<Cow<'de, str>>,
}

/// The error for a text that is not a JSON object with each credential at most once, as a string. The message of
/// serde is dropped because it quotes values.
#[derive(Debug)]
pub(super) struct NotAnObject;

pub(super) fn read<'de>(text: &'de [u8], names: &MemberNames) -> Result<Fields<'de>, NotAnObject> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let fields = deserializer.deserialize_map(Object(names)).map_err(|_| NotAnObject)?;
    deserializer.end().map_err(|_| NotAnObject)?;
    Ok(fields)
}

struct Object<'n>(&'n MemberNames);

/// The value of one of the three members while the object is read.
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
        while let Some((which, exact)) = members.next_key_seed(MemberName(self.0))?.map(MemberMatch::place) {
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

struct MemberName<'n>(&'n MemberNames);

/// What a member's name says: a credential, what another parser could take for a credential, or anything else.
pub(super) enum MemberMatch {
    Exact(usize),
    Similar(usize),
    Other,
}

impl MemberMatch {
    fn place(self) -> (Option<usize>, bool) {
        match self {
            Self::Exact(which) => (Some(which), true),
            Self::Similar(which) => (Some(which), false),
            Self::Other => (None, false),
        }
    }
}

impl<'de> DeserializeSeed<'de> for MemberName<'_> {
    type Value = MemberMatch;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<MemberMatch, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName<'_> {
    type Value = MemberMatch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MemberMatch, E> {
        self.0.find(text).ok_or_else(|| E::custom("a name of the parser's own"))
    }
}

/// Reads a string or `null`; everything else is an error.
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

/// Skips a value, but checks all of it as `Value` would: `IgnoredAny` accepts invalid UTF-8, lone surrogates,
/// numbers out of range and any depth.
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
                // `Value` reads this as a number and ignores the rest.
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

/// The prefix of member names that serde_json uses internally once another crate enables some of its features:
/// `Value` then reads an object with such a name differently. axum's `json` enables `raw_value`.
const PRIVATE: &str = "$serde_json::private::";

/// Reads the name of a skipped member: true if it announces a number (`arbitrary_precision`).
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

/// Reads the text of a number, as `arbitrary_precision` passes it on.
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
