//! Owners hear of their keys by e-mail, through a mail server of yours: that there is a new key, and not the key itself.
//!
//! [`EmailDelivery`] is a [`KeyDelivery`](tower_api_key::delivery::KeyDelivery) for
//! [`Keyring::deliver`](tower_api_key::Keyring::deliver). [`Recipients`] knows the addresses, [`Templates`] the words.

// Only the library must not panic; tests may.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod email_delivery;
mod mail;
mod outbox;

pub use self::email_delivery::EmailDelivery;
pub use self::mail::{Mail, Templates};
pub use self::outbox::{EmailEvent, EmailFailure, Recipients};
