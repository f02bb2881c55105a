//! Reads the credentials from a JSON object that is written plainly, several times faster than the strict reader
//! ([`json_strict`]) and without allocating.
//!
//! The rule: the scanner accepts only what the strict reader certainly accepts too, with the same result, whatever
//! features of serde_json are enabled. Every other text, and so every error, goes to the strict reader, which alone
//! refuses. So the scanner may give up wherever that keeps it simple, but it must not skip a single byte unchecked.
//!
//! It accepts one object in UTF-8 with at most 64 open levels, in which
//!
//! - names are written without escapes, at every level, and none is or looks like one of serde_json's own;
//! - each credential occurs at most once, without a similar name, as a string without escapes or as `null`;
//! - other strings have valid escapes, surrogates in pairs, and no control characters;
//! - numbers are so short that they are finite.
//!
//! Each function takes the rest of the text, and returns what is left of it after the part that it is named after.
//! `None` leaves the whole text to the strict reader.

use std::borrow::Cow;

use super::json_strict::{self, Fields, MemberMatch, MemberNames, NotAnObject};

/// Reads the credentials: the scanner where the text is plain, the strict reader everywhere else.
pub(super) fn read<'t>(text: &'t [u8], names: &MemberNames) -> Result<Fields<'t>, NotAnObject> {
    match scan(text, names) {
        Some(fields) => Ok(fields),
        None => json_strict::read(text, names),
    }
}

fn scan<'t>(text: &'t [u8], names: &MemberNames) -> Option<Fields<'t>> {
    let (fields, rest) = outermost_object(str::from_utf8(text).ok()?, names)?;
    space(rest).is_empty().then_some(fields)
}

fn outermost_object<'t>(text: &'t str, names: &MemberNames) -> Option<(Fields<'t>, &'t [u8])> {
    // The string that starts here, and is followed by its quote and the rest.
    let string = |start: &[u8], rest: &[u8]| text.get(text.len() - start.len()..text.len() - rest.len() - 1);
    // `None` until the credential occurs.
    let mut slots: [Option<Option<Cow<'t, str>>>; 3] = [const { None }; 3];
    let mut rest = expected(text.as_bytes(), b'{')?;
    if let [b'}', rest @ ..] = space(rest) {
        return Some((Fields::default(), rest));
    }
    loop {
        let start = expected(rest, b'"')?;
        let end = plain_string(start)?;
        let value = expected(end, b':')?;
        match names.find(string(start, end)?)? {
            MemberMatch::Other => rest = any_value(value)?,
            MemberMatch::Similar(_) => return None,
            MemberMatch::Exact(which) => {
                let slot = slots.get_mut(which).filter(|slot| slot.is_none())?;
                let (first, after) = token(value)?;
                (*slot, rest) = match first {
                    b'"' => {
                        let rest = plain_string(after)?;
                        (Some(Some(Cow::Borrowed(string(after, rest)?))), rest)
                    }
                    b'n' => (Some(None), after.strip_prefix(b"ull")?),
                    _ => return None,
                };
            }
        }
        match token(rest)? {
            (b',', after) => rest = after,
            (b'}', after) => {
                let names_key = slots.first().is_some_and(Option::is_some);
                let [key, user, project] = slots.map(Option::flatten);
                return Some((Fields { key, names_key, user, project }, after));
            }
            _ => return None,
        }
    }
}

/// A value of any depth.
fn any_value(mut rest: &[u8]) -> Option<&[u8]> {
    let mut open = Open::NOTHING;
    loop {
        let (first, after) = token(rest)?;
        rest = match first {
            b'"' => string(after)?,
            b'-' | b'0'..=b'9' => number(first, after)?,
            b't' => after.strip_prefix(b"rue")?,
            b'f' => after.strip_prefix(b"alse")?,
            b'n' => after.strip_prefix(b"ull")?,
            b'[' => {
                open = open.array()?;
                rest = space(after);
                if !rest.starts_with(b"]") {
                    continue;
                }
                rest
            }
            b'{' => {
                open = open.object()?;
                rest = space(after);
                if !rest.starts_with(b"}") {
                    rest = name(rest)?;
                    continue;
                }
                rest
            }
            _ => return None,
        };
        // A value has ended, or the array or object that was opened last is empty.
        loop {
            if open.is_nothing() {
                return Some(rest);
            }
            let (next, after) = token(rest)?;
            rest = after;
            match (next, open.is_object()) {
                (b',', true) => {
                    rest = name(rest)?;
                    break;
                }
                (b',', false) => break,
                (b'}', true) | (b']', false) => open = open.closed(),
                _ => return None,
            }
        }
    }
}

/// The name of an inner object's member and the colon after it.
fn name(rest: &[u8]) -> Option<&[u8]> {
    let start = expected(rest, b'"')?;
    let end = plain_string(start)?;
    if start.starts_with(b"$") { None } else { expected(end, b':') }
}

/// A string without escapes after its first quote.
fn plain_string(rest: &[u8]) -> Option<&[u8]> {
    text(rest).and_then(|(end, rest)| (end == b'"').then_some(rest))
}

/// A string after its first quote.
fn string(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match text(rest)? {
            (b'"', after) => return Some(after),
            (b'\\', after) => rest = escape(after)?,
            _ => return None,
        }
    }
}

/// The text of a string up to the byte that ends it, which is returned too: a quote, a backslash, or a control
/// character.
fn text(mut rest: &[u8]) -> Option<(u8, &[u8])> {
    while let Some((eight, after)) = rest.split_first_chunk() {
        let ends = ends_of_text(u64::from_le_bytes(*eight));
        if ends != 0 {
            let (end, rest) = rest.get((ends.trailing_zeros() / 8) as usize..)?.split_first()?;
            return Some((*end, rest));
        }
        rest = after;
    }
    loop {
        let (byte, after) = rest.split_first()?;
        if let b'"' | b'\\' | 0..0x20 = byte {
            return Some((*byte, after));
        }
        rest = after;
    }
}

/// Sets the highest bit of each byte that ends the text of a string. Only the lowest of these bits is exact, since a
/// subtraction borrows from the bytes above.
fn ends_of_text(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 0xff;
    // With one bit flipped, the quote follows the control characters, which stay among themselves.
    let control_or_quote = (eight ^ (EACH * 0x02)).wrapping_sub(EACH * 0x21);
    let backslash = (eight ^ (EACH * u64::from(b'\\'))).wrapping_sub(EACH);
    (control_or_quote | backslash) & !eight & (EACH * 0x80)
}

/// An escape after its backslash.
fn escape(rest: &[u8]) -> Option<&[u8]> {
    match rest.split_first()? {
        (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest) => Some(rest),
        (b'u', rest) => match code_unit(rest)? {
            (0xd800..0xdc00, rest) => match code_unit(rest.strip_prefix(br"\u")?)? {
                (0xdc00..0xe000, rest) => Some(rest),
                _ => None,
            },
            (0xdc00..0xe000, _) => None,
            (_, rest) => Some(rest),
        },
        _ => None,
    }
}

/// Four hexadecimal digits. Their value is returned too.
fn code_unit(rest: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = rest.split_first_chunk::<4>()?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let unit = digits.iter().try_fold(0, |unit, byte| Some(unit << 4 | digit(byte)?))?;
    Some((unit, rest))
}

/// A number after its first byte. With at most 200 characters and two digits of exponent, it is less than 10^299.
fn number(first: u8, start: &[u8]) -> Option<&[u8]> {
    let mut rest = match if first == b'-' { start.split_first()? } else { (&first, start) } {
        (b'0', rest) => rest,
        (b'1'..=b'9', rest) => digits(rest),
        _ => return None,
    };
    if let [b'.', b'0'..=b'9', fraction @ ..] = rest {
        rest = digits(fraction);
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = if let [b'+' | b'-', exponent @ ..] = exponent { exponent } else { exponent };
        rest = digits(exponent);
        if !matches!(exponent.len() - rest.len(), 1..=2) {
            return None;
        }
    }
    (start.len() - rest.len() < 200).then_some(rest)
}

fn digits(mut rest: &[u8]) -> &[u8] {
    while let [b'0'..=b'9', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// White space and this byte.
fn expected(rest: &[u8], byte: u8) -> Option<&[u8]> {
    token(rest).filter(|(token, _)| *token == byte).map(|(_, rest)| rest)
}

/// White space and the byte after it, which is returned too.
fn token(rest: &[u8]) -> Option<(u8, &[u8])> {
    space(rest).split_first().map(|(token, rest)| (*token, rest))
}

fn space(mut rest: &[u8]) -> &[u8] {
    while let [b' ' | b'\n' | b'\t' | b'\r', after @ ..] = rest {
        rest = after;
    }
    rest
}

/// The objects and arrays that are open inside of a value, as a stack of bits: 1 for an object, 0 for an array, and a 1
/// below them all.
#[derive(Clone, Copy)]
struct Open(u64);

impl Open {
    const NOTHING: Self = Self(1);

    /// `None` if there is no room for another level.
    fn object(self) -> Option<Self> {
        self.array().map(|Self(open)| Self(open | 1))
    }

    fn array(self) -> Option<Self> {
        (self.0.leading_zeros() > 0).then_some(Self(self.0 << 1))
    }

    fn closed(self) -> Self {
        Self(self.0 >> 1)
    }

    fn is_object(self) -> bool {
        self.0 & 1 == 1
    }

    fn is_nothing(self) -> bool {
        self.0 == Self::NOTHING.0
    }
}

#[cfg(test)]
mod tests;
