//! Explains why a request is refused: [`Explainer`] answers for a layer.
//!
//! ```
//! use http::Method;
//! use tower_api_key::explain::Question;
//! use tower_api_key::scheme::Bearer;
//! use tower_api_key::store::MemoryStore;
//! use tower_api_key::{ApiKeyAuth, KeyId, Keyring};
//!
//! # async fn f(store: MemoryStore, keyring: Keyring, id: KeyId) -> Result<(), Box<dyn std::error::Error>> {
//! let auth = ApiKeyAuth::new(store, Bearer::default());
//! let explainer = auth.explainer();
//!
//! let question = Question::new(Method::POST).route("/v1/charges").address([192, 0, 2, 7]);
//! if let Some(key) = keyring.get(&id).await? {
//!     println!("{}", explainer.explain(&key, &question).await?);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! ```text
//! key_7Zq of alice: refused by ip with 403 restricted: API key doesn't have permission for this resource
//!   ok    https        the layer does not demand it
//!   ok    sunset       bearer is in use
//!   ...
//!   NO    ip           it is 192.0.2.7, allowed: 10.0.0.0/8
//!   ok    referrer     it is not restricted
//!   ...
//! ```
//!
//! The explanation runs the verifier's own checks with the layer's own endpoints, so it cannot disagree with the
//! layer. It covers only the layer: guards and handlers behind it may still refuse.
//!
//! # Security
//!
//! An explanation distinguishes revoked from unknown keys, and shows what restrictions allow. Show it only to
//! operators and to people who manage the key; `explain` of `tower-api-key-manage` enforces this.

mod details;
mod explainer;
mod explanation;
mod recorded_checks;
mod verifier;

pub use self::explainer::{Explainer, Question, UnknownScheme};
pub use self::explanation::{CheckOutcome, Explanation, Finding};
pub use crate::gate::Check;
