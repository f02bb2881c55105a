//! Issuing, rotating and revoking keys.
//!
//! The secret of a key is available only once, when it is issued. Only its digest is stored (R29).
//!
//! ```
//! use tower_api_key::{Grace, Keyring, NewKey};
//! use tower_api_key::{KeyQuery, UserId};
//! # use tower_api_key::store::{KeyRegistry, Directory};
//!
//! # async fn f(store: impl KeyRegistry + Directory) -> Result<(), Box<dyn std::error::Error>> {
//! let keyring = Keyring::new(store);
//! let alice = UserId::new("alice")?;
//!
//! let issued = keyring.issue(NewKey::user_level(alice.clone(), "Production Key")).await?;
//! println!("shown once: {}", issued.key().expose_secret());
//!
//! let rotated = keyring.rotate(issued.id(), Grace::None).await?; // the key before is dead now
//! keyring.revoke(rotated.id()).await?; // and now this one
//! let ended_too = keyring.list(&alice, &KeyQuery::default()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Deployment caveat
//!
//! The keyring is for your own code. It checks whether the *owner* of a key may have it, but not who is calling.
//! Use the routes of `tower-api-key-manage` to let keys manage other keys, or [`Keyring::acting_as`].

mod changes;
pub(crate) mod error;
mod exposed;
mod import;
mod imported_digest;
mod issue;
pub(crate) mod issued;
#[allow(clippy::module_inception, reason = "the file is named after its type")]
pub(crate) mod keyring;
mod name;
pub(crate) mod new_key;
mod new_key_request;
mod reads;
mod report;
mod shares;
#[cfg(test)]
mod tests;

pub use self::exposed::ExposedKey;
pub use self::import::{ImportReport, ImportedKey, RefusedImport};
pub use self::imported_digest::{ImportRefusal, ImportedDigest};
pub use self::issued::InvalidGrace;
pub use self::new_key_request::{NewKeyError, NewKeyErrors, NewKeyRequest};
pub use self::report::{KeyUse, Report, RetirementStatus};

pub(crate) use self::error::KeyringError;
pub(crate) use self::keyring::Keyring;
