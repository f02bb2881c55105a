//! [`CorruptRow`]: what is wrong with a row, and whose row it is.

use std::fmt;

use crate::key::{KeyId, UserId, is_id};

/// A corrupt row of a store: what is wrong with it, and the key, user or account that it belongs to, if
/// known.
///
/// It is for operators, who must find the row. It contains no value of the row except that id, so it shows no
/// secret.
///
/// ```
/// use tower_api_key::store::CorruptRow;
/// use tower_api_key::KeyId;
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
    /// The name of the column in the database, if a value in it has the wrong type.
    column: Option<Box<str>>,
    of: Option<Of>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Key(KeyId),
    User(UserId),
    Account(Box<str>),
}

impl CorruptRow {
    /// Creates a description without a key or user.
    #[must_use]
    pub fn new(what: &'static str) -> Self {
        Self(Box::new(Corruption { what, column: None, of: None }))
    }

    /// Sets the key that the row belongs to, unless a key or user is set already.
    #[must_use]
    pub fn of_key(mut self, id: &KeyId) -> Self {
        self.0.of.get_or_insert_with(|| Of::Key(id.clone()));
        self
    }

    /// Sets the user that the row belongs to, unless a key or user is set already.
    #[must_use]
    pub fn of_user(mut self, user: &UserId) -> Self {
        self.0.of.get_or_insert_with(|| Of::User(user.clone()));
        self
    }

    /// Sets the account that the row belongs to, unless the row's key, user or account is set already, or the text is no id.
    #[must_use]
    pub fn of_account(mut self, account: &str) -> Self {
        if is_id(account) {
            self.0.of.get_or_insert_with(|| Of::Account(account.into()));
        }
        self
    }

    /// Sets the name of the column.
    #[must_use]
    pub fn in_column(mut self, name: &str) -> Self {
        self.0.column = Some(name.into());
        self
    }

    /// What is wrong, without the place.
    #[must_use]
    pub fn what(&self) -> &'static str {
        self.0.what
    }

    /// The key that the row belongs to.
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
            Some(Of::Account(account)) => write!(f, "account {account}: ")?,
        }
        if let Some(column) = &self.0.column {
            write!(f, "column {column}: ")?;
        }
        f.write_str(self.0.what)
    }
}
