//! Secret scanners say which keys they found.
//!
//! # Format
//!
//! That of GitHub's secret scanning partner program, which others speak as well:
//!
//! ```text
//! POST /leaks
//! Content-Type: application/json
//! Github-Public-Key-Identifier: bcb5...518c
//! Github-Public-Key-Signature: MEQCIQDa...           (ECDSA on P-256 with SHA-256 over the body, DER, base64)
//!
//! [{"token": "sk_live_...", "type": "acme_api_key", "url": "https://github.com/...", "source": "commit"}]
//! ```
//!
//! ```json
//! [{"token_hash": "…", "token_type": "acme_api_key", "label": "true_positive"}]
//! ```
//!
//! `token_hash` is SHA-256 over the token, in hexadecimal; `true_positive` are keys that were issued, ended ones among
//! them.

mod fetched;
mod signature;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, post};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_api_key::Verifier;
use tower_api_key::auth_error::{AuthError, AuthErrorKind};
use tower_api_key::body_budget::{Budget, Collected, Sender};
use tower_api_key::bulkhead::{Bulkhead, Capacity, Full, Permit};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::config_error::ConfigError;
use tower_api_key::credentials::Head;
use tower_api_key::delivery::Delivery;
use tower_api_key::key::{KeyDigest, KeyId, UserId};
use tower_api_key::keyring::{ExposedKey, Keyring};
use tower_api_key::limit::{Limit, Throttle};
use tower_api_key::render::Refusals;
use tower_api_key::store::StoreError;
use tower_api_key::unread_body;

use super::body::READ_DEADLINE;
use super::refusal::{self, Own, Refusal};

pub use self::fetched::FetchedKeys;
pub use self::signature::{PublicKey, PublicKeyList, PublicKeys};

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
const MAX_BODY_LEN: usize = 1 << 20;
/// For all reports together.
const CAP: usize = 16 << 20;
/// How long a public key may be looked for, with the wait for a turn.
const KEY_DEADLINE: Duration = Duration::from_secs(10);
/// How many public keys are looked for at once, and how many of that for one client. Those whose address nobody knows are one.
const LOOKUPS: Capacity = Capacity { permits: 16, permits_per_key: 4, places: 256 };
/// How many signatures are checked at once: each takes a core, for some milliseconds where the body is large.
const CHECKS: Capacity = Capacity { permits: 2, permits_per_key: 1, places: 256 };

const INVALID_SIGNATURE: Own = Own::new(
    StatusCode::UNAUTHORIZED,
    "invalid_signature",
    "The signature is missing, by a key that is not known, or not one of this body",
);

/// The webhook for secret scanners: revokes the keys that they found, and tells owners (R42).
///
/// ```
/// use axum::Router;
/// use tower_api_key_manage::{Leaks, PublicKeyList};
/// use tower_api_key::{Keyring, MemoryStore, Verifier};
///
/// let store = MemoryStore::new();
/// // As https://api.github.com/meta/public_keys/secret_scanning says; `FetchedKeys` asks for it and keeps it.
/// let keys = PublicKeyList::from_json(r#"{"public_keys": []}"#)?;
/// let leaks = Leaks::new(Keyring::new(store.clone()), Verifier::new(store), keys)
///     .on_leak(|leak| eprintln!("{:?} was found", leak.key));
/// let app: Router = Router::new().route("/leaks", leaks.route());
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// Nothing of the body is parsed before its signature is verified, and none of it is read without the two headers, or for a
/// public key that is not known. A store that cannot tell, or public keys that cannot be had, are a 503: scanners repeat what
/// was not taken, and repeating changes nothing.
///
/// A key that is active, also one in a rotation's grace, is revoked before the answer, and its owner is told by the
/// keyring's [delivery](Keyring::deliver). One that has expired is revoked too, so that no clock revives it, and nobody is
/// told. The key that took a leaked one's place is another secret, and lives on.
///
/// # Deployment caveat
///
/// Mount it outside of your layer, or declare it public: scanners have no key. The signature covers no time and no address;
/// whoever saw such a request can repeat it, and that revokes what is revoked.
///
/// # Those who sign nothing
///
/// Anybody can send reports here. So reports that are not signed as they should be spend a budget of the client's
/// [address](Self::client_addr): [`50/5s`](Self::failures), which is ten a second and fifty at once. Spending are: a header that
/// is missing or there twice, a public key that is not known, a signature that is not one of this body, and a body that was too
/// large, too slow or broke off before that could be told. Beyond it, everything from that address gets 429 with `Retry-After`
/// before its body is read, good reports too; reports that are signed spend nothing.
///
/// Name your proxies: behind one that is not named all clients are one address, and a forger who spends its budget holds off
/// the scanner. Where no address is known there is no such budget. What remains is that few public keys are looked for at once
/// (16, and 4 of one client), few signatures are checked at once (2, and 1 of one client), and those whose address nobody knows
/// are one client.
#[derive(Clone)]
pub struct Leaks {
    keyring: Keyring,
    verifier: Verifier,
    keys: Arc<dyn PublicKeys>,
    client: ClientAddr,
    limit: usize,
    budget: Budget,
    failures: Arc<Throttle>,
    lookups: Arc<Bulkhead<Sender>>,
    checks: Arc<Bulkhead<Sender>>,
    listener: Arc<dyn Fn(&Leak) + Send + Sync>,
}

/// A key that was found where others can read it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leak {
    /// The key.
    pub key: KeyId,
    /// Whose it is.
    pub owner: UserId,
    /// Whether it worked until now.
    pub was_active: bool,
    /// What the scanner calls such keys.
    pub kind: String,
    /// Where it was found, if the scanner said so.
    pub url: Option<String>,
    /// In what kind of place, such as `commit`.
    pub source: Option<String>,
    /// What became of telling its owner.
    pub delivery: Delivery,
}

impl Leaks {
    /// Looks keys up by the verifier's eyes, revokes them in the keyring, and believes whoever signs with these keys.
    #[must_use]
    pub fn new(keyring: Keyring, verifier: Verifier, keys: impl PublicKeys) -> Self {
        let (keys, listener) = (Arc::new(keys), Arc::new(|_: &Leak| ()));
        let (client, limit, budget) = (ClientAddr::peer(), MAX_BODY_LEN, Budget::new(CAP, MAX_BODY_LEN));
        let failures = Arc::new(Throttle::default());
        let (lookups, checks) = (Arc::new(Bulkhead::new(LOOKUPS)), Arc::new(Bulkhead::new(CHECKS)));
        Self { keyring, verifier, keys, client, limit, budget, failures, lookups, checks, listener }
    }

    /// How often one client may send what is not signed; the default is `50/5s`: ten a second, and fifty at once. It is counted
    /// by the keyring's clock. Clones count together.
    #[must_use]
    pub fn failures(self, limit: Limit) -> Self {
        Self { failures: Arc::new(Throttle::new(limit)), ..self }
    }

    /// Whose address a report comes from: reports are read before their signature is verified, and each client has but a
    /// share of the 16 MiB for all of them, and a budget of [failures](Self::failures). The default is the peer's; behind
    /// proxies, name them.
    #[must_use]
    pub fn client_addr(self, client: ClientAddr) -> Self {
        Self { client, ..self }
    }

    /// Is told of each key of ours that was found.
    #[must_use]
    pub fn on_leak(mut self, listener: impl Fn(&Leak) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// The largest body that is read, in bytes; larger ones get 413. The default is 1 MiB, some thousand finds.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Zero`].
    pub fn limit(mut self, bytes: usize) -> Result<Self, ConfigError> {
        if bytes == 0 {
            return Err(ConfigError::Zero("the limit of a body"));
        }
        self.limit = bytes;
        self.budget = Budget::new(CAP.max(bytes), bytes);
        Ok(self)
    }

    /// The route, for any path.
    pub fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        let (client, budget) = (self.client.clone(), self.budget.clone());
        let settle = from_fn(move |request: Request, next: Next| {
            let room = budget.room(client.sender(&Head::of(&request)));
            unread_body::settle(request, next, room)
        });
        let route = post(async move |request: Request| match self.answer(request).await {
            Ok(found) => Json(found).into_response(),
            Err(NotTaken::Forged) => Refusal::from(&INVALID_SIGNATURE).into_response(),
            // Whoever signs is nobody that the layer knows: it is said here.
            Err(NotTaken::Auth(error)) => Refusals::default().response(error),
        });
        route.fallback(refusal::method_not_allowed).layer(settle)
    }

    async fn answer(&self, request: Request) -> Result<Value, NotTaken> {
        let (parts, body) = request.into_parts();
        let client = self.client.of(&Head::from(&parts));
        if let Some(client) = client
            && let Some(wait) = self.failures.retry_after(client, self.keyring.now())
        {
            return Err(error(AuthErrorKind::RateLimited).with_retry_after(wait).into());
        }
        // Its room is taken until all of it is done.
        let Collected { data: body, charge: _charge, .. } = match self.signed(&parts, body, client).await {
            Ok(signed) => signed,
            Err(refusal) => {
                if let Some(client) = client.filter(|_| refusal.is_the_senders()) {
                    self.failures.failed(client, self.keyring.now());
                }
                return Err(refusal);
            }
        };
        let finds = match serde_json::from_slice(&body) {
            Ok(Value::Array(finds)) => finds,
            _ => return Err(error(AuthErrorKind::MalformedBody).into()),
        };
        let mut answers = Vec::with_capacity(finds.len());
        let mut torn = None;
        for find in &finds {
            let text = |name: &str| find.get(name).and_then(Value::as_str);
            // What names no token says nothing to us.
            let Some(token) = text("token") else { continue };
            let kind = text("type").unwrap_or_default();
            let known = match self.end(token, kind, text("url"), text("source")).await {
                Ok(known) => known,
                // A row that makes no sense will make none at the next attempt: it holds up no other find.
                Err(error) if is_torn(&error) => {
                    torn = Some(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            answers.push(json!({
                "token_hash": hex(&KeyDigest::of(token)),
                "token_type": kind,
                "label": if known { "true_positive" } else { "false_positive" },
            }));
        }
        torn.map_or(Ok(answers.into()), |error| Err(error.into()))
    }

    /// The body, if it is one that was signed.
    async fn signed(&self, parts: &Parts, body: Body, client: Option<IpAddr>) -> Result<Collected, NotTaken> {
        let identifier = only(&parts.headers, IDENTIFIER).ok_or(NotTaken::Forged)?;
        let signature = only(&parts.headers, SIGNATURE).ok_or(NotTaken::Forged)?;
        let one = client.map_or(Sender::UNKNOWN, Sender::at);
        let finding = timeout(KEY_DEADLINE, async {
            let _turn = permit(&self.lookups, &one).await?;
            let key = self.keys.find(identifier).await;
            key.map_err(|source| error(AuthErrorKind::StoreFailed).with_source(source))
        });
        let found = finding.await.unwrap_or_else(|_| Err(error(AuthErrorKind::StoreTimeout)));
        let key = found?.ok_or(NotTaken::Forged)?;
        let sender = self.client.sender(&Head::from(parts));
        self.verifier.observe_sender(&sender);
        let room = self.budget.room(sender);
        let body = room.read(body, self.limit, READ_DEADLINE).await.map_err(error)?;
        let _turn = permit(&self.checks, &one).await?;
        if key.signed(&body.data, signature) { Ok(body) } else { Err(NotTaken::Forged) }
    }

    /// Revokes a key that was found; whether it is one of ours.
    async fn end(
        &self,
        token: &str,
        kind: &str,
        url: Option<&str>,
        source: Option<&str>,
    ) -> Result<bool, AuthError> {
        let url = url.filter(|url| !url.is_empty()).map(str::to_owned);
        let ended = self.keyring.revoke_leaked(&self.verifier, token, url.clone()).await?;
        let Some(ExposedKey { record, was_active, delivery, .. }) = ended else { return Ok(false) };
        (self.listener)(&Leak {
            key: record.id.clone(),
            owner: record.owner.clone(),
            was_active,
            kind: kind.to_owned(),
            url,
            source: source.map(str::to_owned),
            delivery,
        });
        Ok(true)
    }
}

/// Why a report was not taken.
enum NotTaken {
    Forged,
    Auth(AuthError),
}

impl NotTaken {
    /// Whether it is for what was sent, and not for what we could not do.
    fn is_the_senders(&self) -> bool {
        match self {
            Self::Forged => true,
            Self::Auth(error) => error.status() != StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl From<AuthError> for NotTaken {
    fn from(error: AuthError) -> Self {
        Self::Auth(error)
    }
}

fn error(kind: AuthErrorKind) -> AuthError {
    AuthError::new(kind, None)
}

/// Waits for a permit, where there is a place to wait in.
async fn permit(of: &Bulkhead<Sender>, one: &Sender) -> Result<Permit<Sender>, AuthError> {
    of.acquire(one).await.map_err(|Full| error(AuthErrorKind::Overloaded))
}

/// Whether the store said that what it holds cannot be.
fn is_torn(error: &AuthError) -> bool {
    matches!(error.source().and_then(<dyn Error>::downcast_ref), Some(StoreError::Corrupt(_)))
}

/// The one line of a header.
fn only<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.next().is_some() { None } else { first.to_str().ok() }
}

/// What the program calls the hashed form of a token, whatever the keys' own digests are.
fn hex(digest: &KeyDigest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaks").field("limit", &self.limit).finish_non_exhaustive()
    }
}
