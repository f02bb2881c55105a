//! What is wrong with a row, and whose row it is.

use std::fmt;

use crate::key::{KeyId, UserId};

/// What a store holds that makes no sense: what is wrong with it, and of which key or user it is, as far as that is known.
///
/// It is for operators, who look for the row. No value of the row is in it but that id, so that it shows no secret.
///
/// ```
/// use tower_api_key::KeyId;
/// use tower_api_key::store::CorruptRow;
///
/// let row = CorruptRow::new("its limits do not parse").of_key(&KeyId::new("key_1")?);
/// assert_eq!(row.to_string(), "key key_1: its limits do not parse");
/// assert_eq!(row.key_id().map(KeyId::as_str), Some("key_1"));
/// # Ok::<(), tower_api_key::key::ParseIdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CorruptRow(Box<Corruption>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Corruption {
    what: &'static str,
    /// The column by its name in the database, where a value there is not even of the right type.
    column: Option<Box<str>>,
    of: Option<Of>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Key(KeyId),
    User(UserId),
}

impl CorruptRow {
    /// A row of nobody knows whom.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self(Box::new(Corruption { what, column: None, of: None }))
    }

    /// The row is one of this key. What is said first stays.
    #[must_use]
    pub fn of_key(mut self, id: &KeyId) -> Self {
        self.0.of.get_or_insert_with(|| Of::Key(id.clone()));
        self
    }

    /// The row is one of this user. What is said first stays.
    #[must_use]
    pub fn of_user(mut self, user: &UserId) -> Self {
        self.0.of.get_or_insert_with(|| Of::User(user.clone()));
        self
    }

    /// The value stands in a column of this name.
    #[must_use]
    pub fn in_column(mut self, name: &str) -> Self {
        self.0.column = Some(name.into());
        self
    }

    /// What is wrong, without saying where.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.0.what
    }

    /// The key whose row it is.
    #[must_use]
    pub fn key_id(&self) -> Option<&KeyId> {
        match &self.0.of {
            Some(Of::Key(id)) => Some(id),
            _ => None,
        }
    }
}

impl fmt::Display for CorruptRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.of {
            None => {}
            Some(Of::Key(id)) => write!(f, "key {id}: ")?,
            Some(Of::User(user)) => write!(f, "user {user}: ")?,
        }
        if let Some(column) = &self.0.column {
            write!(f, "column {column}: ")?;
        }
        f.write_str(self.0.what)
    }
}
