//! Parses the lines of a file to import.
//!
//! Error messages repeat nothing from the file except column names, and those only if the line is certainly a
//! header: what looks like a name may be a secret in a file without a header.

use std::collections::BTreeSet;
use std::fmt;

use csv::{Position, ReaderBuilder, StringRecord};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::error::CliError;

pub(crate) type JsonObject = Map<String, Value>;

/// The members that a key may have.
const NAMES: [&str; 21] = [
    "id",
    "owner",
    "name",
    "sha256",
    "sha512",
    "sanctum",
    "sanctum_id",
    "hmac",
    "pepper",
    "slow",
    "start",
    "key",
    "project",
    "environment",
    "scopes",
    "metadata",
    "restrictions",
    "limits",
    "created_at",
    "expires_at",
    "revoked_at",
];

/// An error about a line of the file.
pub(crate) fn wrong(line: usize, why: impl fmt::Display) -> CliError {
    CliError::Usage(format!("line {line}: {why}; nothing was imported"))
}

/// The error for an unknown member. It contains the member's name only if that is unlikely to be anything else.
pub(crate) fn unknown<'m>(names: impl Iterator<Item = &'m str>) -> Option<String> {
    let name = names.into_iter().find(|name| !is_known(name))?;
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | ' ' | '.');
    let shown = name.len() <= 24 && name.chars().all(plain);
    let nearest = NAMES.into_iter().map(|known| (strsim::jaro_winkler(&simple(name), known), known));
    let nearest = nearest.max_by(|(one, _), (other, _)| one.total_cmp(other)).filter(|(like, _)| *like > 0.8);
    Some(match (shown, nearest) {
        (true, Some((_, known))) => format!("a key has no member {name:?}: did you mean {known:?}"),
        (true, None) => format!("a key has no member {name:?}: docs/cli.md lists the names"),
        (false, _) => "it has a member whose name is not in docs/cli.md".to_owned(),
    })
}

fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Simplifies the spelling of a name for comparison.
fn simple(name: &str) -> String {
    let (mut simple, mut before) = (String::new(), ' ');
    for letter in name.trim().chars() {
        if letter.is_ascii_uppercase() && before.is_ascii_lowercase() {
            simple.push('_');
        }
        simple.push(if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
        before = letter;
    }
    simple
}

/// Parses one JSON object per line.
pub(crate) fn of_json(text: &str) -> Result<Vec<(usize, JsonObject)>, CliError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let read = |(index, line): (usize, &str)| {
        let number = index + 1;
        // The parser's message is dropped, because it quotes the input.
        let members =
            object(line).map_err(|why| wrong(number, why.unwrap_or_else(|| no_object(line).to_owned())))?;
        if !members.is_empty() && !members.keys().any(|name| is_known(name)) {
            return Err(wrong(number, "it has none of a key's members, such as id, owner and name"));
        }
        Ok((number, members))
    };
    lines.map(read).collect()
}

/// Parses an object, or returns what is wrong with it: a duplicate member, or `None` for anything else.
fn object(line: &str) -> Result<JsonObject, Option<String>> {
    let mut json = serde_json::Deserializer::from_str(line);
    let mut twice = false;
    let value = EachOnce(&mut twice).deserialize(&mut json);
    if twice {
        return Err(Some("a member occurs twice, here or in a nested object".to_owned()));
    }
    match (value, json.end()) {
        (Ok(Value::Object(members)), Ok(())) => Ok(members),
        _ => Err(None),
    }
}

/// Says what a line is that is not an object.
fn no_object(line: &str) -> &'static str {
    let line = line.trim();
    if line.starts_with('[') {
        "this is a JSON array: write one object in each line, as `jq -c '.[]'` does"
    } else if line.starts_with('{') && !line.ends_with('}') {
        "the object does not end in this line: write one in each line, as `jq -c .` does"
    } else if columns_by(line, ',') {
        "this is the header of a CSV file: use --format csv"
    } else {
        "this is not a JSON object"
    }
}

/// Parses one key per row; the first row names the columns.
pub(crate) fn of_csv(text: &str) -> Result<Vec<(usize, JsonObject)>, CliError> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let mut lines = LineNumbers { text: text.as_bytes(), at: 0, line: 1 };
    let mut rows = reader.records().map(|record| {
        // The text is valid UTF-8 and rows may have any length, so nothing else can go wrong.
        let record = record.map_err(|_| CliError::usage("the file is not CSV; nothing was imported"))?;
        Ok::<_, CliError>((lines.of(record.position()), record))
    });
    let (first, names) = loop {
        match rows.next() {
            None => return Ok(Vec::new()),
            Some(row) => match row? {
                (_, record) if is_nothing(&record) => {}
                head => break head,
            },
        }
    };
    check_head(&names).map_err(|why| wrong(first, why))?;
    let mut keys = Vec::new();
    for row in rows {
        let (number, record) = row?;
        if is_nothing(&record) {
            continue;
        }
        if record.len() != names.len() {
            let (has, head) = (record.len(), names.len());
            return Err(wrong(number, format_args!("it has {has} fields, but the header has {head}")));
        }
        let mut members = JsonObject::new();
        for (name, value) in names.iter().zip(&record).filter(|(_, value)| !value.is_empty()) {
            let value = match name {
                "" => return Err(wrong(number, "there is a value in a column without a name")),
                "scopes" => value.split_ascii_whitespace().collect(),
                "restrictions" | "metadata" => json(value)
                    .map_err(|why| wrong(number, format_args!("{name} must be a JSON object{why}")))?,
                _ => value.into(),
            };
            members.insert(name.to_owned(), value);
        }
        keys.push((number, members));
    }
    Ok(keys)
}

fn json(text: &str) -> Result<Value, &'static str> {
    match object(text) {
        Ok(members) => Ok(members.into()),
        Err(Some(_)) => Err(", and a member occurs twice in it"),
        Err(None) => Err(""),
    }
}

/// Whether a row is empty, as spreadsheets leave them.
fn is_nothing(record: &StringRecord) -> bool {
    record.iter().all(|field| field.trim().is_empty())
}

fn check_head(names: &StringRecord) -> Result<(), String> {
    let line: String = names.iter().collect::<Vec<_>>().join(",");
    if line.trim_start().starts_with(['{', '[']) {
        return Err(if line.trim_start().starts_with('{') {
            "these are JSON objects: use --format jsonl".to_owned()
        } else {
            no_object(&line).to_owned()
        });
    }
    for (separator, written) in [(';', "semicolons"), ('\t', "tabs"), ('|', "bars")] {
        if columns_by(&line, separator) {
            return Err(format!("the columns are separated by {written}: write the file with commas"));
        }
    }
    if !columns_by(&line, ',') {
        return Err(
            "this is not a header: the first line names the columns, such as id,owner,name,sha256 (docs/cli.md lists the names)"
                .to_owned(),
        );
    }
    if let Some(unknown) = unknown(names.iter().filter(|name| !name.is_empty())) {
        return Err(unknown);
    }
    let mut seen = BTreeSet::new();
    match names.iter().find(|name| !name.is_empty() && !seen.insert(*name)) {
        Some(twice) => Err(format!("the column {twice} occurs twice")),
        None => Ok(()),
    }
}

/// Whether a line, split by this separator, names at least two columns of a key, in whatever spelling.
fn columns_by(line: &str, separator: char) -> bool {
    let columns = line.split(separator).map(|name| simple(name.trim().trim_matches('"')));
    columns.filter(|name| is_known(name)).count() > 1
}

/// Computes the line number of each row. The reader's own numbers are wrong after CRLF.
struct LineNumbers<'t> {
    text: &'t [u8],
    at: usize,
    line: usize,
}

impl LineNumbers<'_> {
    fn of(&mut self, position: Option<&Position>) -> usize {
        let begins = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(self.at);
        // Skips the end of the previous row and empty lines.
        while self.at < begins || self.next().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
            let byte = self.next();
            self.at += 1;
            // A CR ends a line by itself only if no LF follows.
            if byte == Some(b'\n') || (byte == Some(b'\r') && self.next() != Some(b'\n')) {
                self.line += 1;
            }
            if byte.is_none() {
                break;
            }
        }
        self.line
    }

    fn next(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

/// Reads a value in which no object has a duplicate member: of two restrictions, one would be lost.
struct EachOnce<'t>(&'t mut bool);

impl<'de> DeserializeSeed<'de> for EachOnce<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EachOnce<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(EachOnce(self.0))? {
            list.push(entry);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = JsonObject::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(EachOnce(self.0))?;
            if members.insert(name, value).is_some() {
                *self.0 = true;
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_d2_lines_are_counted_as_an_editor_counts_them() {
        for end in ["\n", "\r\n", "\r"] {
            let rows =
                ["id,owner,name,key", "a,o,n,k", "", ",,,", "b,o,\"n\nn\",k", "", "c,o,n,k", "d,o,n,k"];
            let text = rows.join(end) + end;
            let read = of_csv(&text).unwrap_or_else(|_| panic!("{end:?}"));
            let numbers: Vec<_> =
                read.iter().map(|(number, members)| (members["id"].as_str().unwrap(), *number)).collect();
            // The name of key b spans two lines.
            assert_eq!(numbers, [("a", 2), ("b", 5), ("c", 8), ("d", 9)], "{end:?}");
        }
    }

    #[test]
    fn a_name_is_told_from_others_by_its_likeness() {
        for (name, known) in [
            ("ID", "id"),
            ("Owner", "owner"),
            (" name", "name"),
            ("expiresAt", "expires_at"),
            ("expires", "expires_at"),
            ("sha-256", "sha256"),
            ("scope", "scopes"),
            ("revokedAt", "revoked_at"),
            ("restriction", "restrictions"),
        ] {
            let said = unknown([name].into_iter()).unwrap();
            assert!(said.ends_with(&format!("did you mean {known:?}")), "{said}");
        }
        assert!(unknown(["colour"].into_iter()).unwrap().contains("\"colour\": docs/cli.md"));
        assert_eq!(unknown(NAMES.into_iter()), None);
        let secret = unknown(["sk_live_0123456789012345678901"].into_iter()).unwrap();
        assert!(!secret.contains("sk_live"), "{secret}");
    }
}
