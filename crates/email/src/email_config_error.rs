//! [`EmailConfigError`]: what is wrong with a mail server's URL or the sender.

/// The error if the mail server or the sender is not valid. It is found at start, never when a mail is sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmailConfigError {
    /// The URL of the mail server. The error does not contain the URL, which may contain a password.
    #[error("not the URL of a mail server: {0}")]
    Smtp(&'static str),
    /// The mailbox that mails come from.
    #[error("{0:?} is not a mailbox: write Keys <keys@example.com>")]
    Mailbox(String),
}
