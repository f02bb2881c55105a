//! Notifies owners by e-mail, through your mail server, that they have a new key. The mail does not contain the key.
//!
//! [`EmailDelivery`] is a [`KeyDelivery`](tower_api_key::delivery::KeyDelivery) for
//! [`Keyring::deliver`](tower_api_key::Keyring::deliver). [`Recipients`] provides the addresses, [`Templates`] the
//! texts.

// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod email_config_error;
mod email_delivery;
mod mail;
mod outbox;

pub use self::email_config_error::EmailConfigError;
pub use self::email_delivery::EmailDelivery;
pub use self::mail::{Mail, Templates};
pub use self::outbox::{EmailEvent, EmailFailure, Recipients};
