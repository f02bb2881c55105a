//! [`Leaks`]: a webhook by which secret scanners report leaked keys, which are then revoked.
//!
//! # Format
//!
//! The format of GitHub's secret scanning partner program, which other scanners use too:
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
//! `token_hash` is the SHA-256 of the token in hexadecimal. `true_positive` marks keys that were issued, including
//! ended ones.

mod fetched;
mod signature;

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
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
use tower_api_key::body_budget::{Budget, Collected, Sender};
use tower_api_key::bulkhead::{Bulkhead, Capacity, Full, Permit};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::delivery::Delivery;
use tower_api_key::keyring::ExposedKey;
use tower_api_key::limit::{Limit, Throttle};
use tower_api_key::render::Refusals;
use tower_api_key::store::StoreError;
use tower_api_key::{
    AuthError, AuthErrorKind, Head, KeyDigest, KeyId, Keyring, UserId, Verifier, unread_body,
};

use super::body::READ_DEADLINE;
use super::refusal::{self, RouteError, RouteProblem};

pub use self::fetched::FetchedKeys;
pub use self::signature::{PublicKey, PublicKeyError, PublicKeyList, PublicKeys};

const IDENTIFIER: &str = "github-public-key-identifier";
const SIGNATURE: &str = "github-public-key-signature";
const MAX_BODY_LEN: usize = 1 << 20;
/// The budget for all reports together.
const CAP: usize = 16 << 20;
/// How long it may take to find a public key, including the wait for a permit.
const KEY_DEADLINE: Duration = Duration::from_secs(10);
/// How many public keys are looked up at once, overall and for one client. Clients with an unknown address count as
/// one.
const LOOKUPS: Capacity = Capacity { permits: 16, permits_per_key: 4, places: 256 };
/// How many signatures are checked at once. Each uses a core, for some milliseconds if the body is large.
const CHECKS: Capacity = Capacity { permits: 2, permits_per_key: 1, places: 256 };

const INVALID_SIGNATURE: RouteProblem = RouteProblem::new(
    StatusCode::UNAUTHORIZED,
    "invalid_signature",
    "The signature is missing, by a key that is not known, or not one of this body",
);

/// The webhook for secret scanners: revokes the keys that they found and notifies the owners (R42).
///
/// ```
/// use axum::Router;
/// use tower_api_key_manage::{Leaks, PublicKeyList};
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{Keyring, Verifier};
///
/// let store = MemoryStore::new();
/// // The list at https://api.github.com/meta/public_keys/secret_scanning; `FetchedKeys` fetches and caches it.
/// let keys = PublicKeyList::from_json(r#"{"public_keys": []}"#)?;
/// let leaks = Leaks::new(Keyring::new(store.clone()), Verifier::new(store), keys)
///     .on_leak(|leak| eprintln!("{:?} was found", leak.key));
/// let app: Router = Router::new().route("/leaks", leaks.route());
/// # Ok::<(), tower_api_key_manage::PublicKeyError>(())
/// ```
///
/// No body is parsed before its signature is verified, and none is read if one of the two headers is missing or the
/// public key is unknown. If the store or the public keys are unavailable, the answer is 503: scanners repeat a
/// report that was not accepted, and a repeated report changes nothing.
///
/// An active key, including one in its grace period, is revoked before the answer, and its owner is notified by the
/// keyring's [delivery](Keyring::deliver). An expired key is revoked too, so that no clock can revive it, but
/// nobody is notified. The key that replaced a leaked one has another secret and stays valid.
///
/// # Deployment caveat
///
/// Mount it outside of your layer or declare it public, because scanners have no key. The signature covers neither
/// time nor address: anybody who sees such a request can replay it, which only revokes keys that are already
/// revoked.
///
/// # Unsigned reports
///
/// Anybody can send reports, so reports without a valid signature spend a budget of the client's
/// [address](Self::client_addr): [`50/5s`](Self::failures), which is ten a second and fifty at once. A report
/// spends it if a header is missing or repeated, the public key is unknown, the signature does not match the body,
/// or the body is too large, too slow or incomplete. Beyond the budget, every report from that address gets 429
/// with `Retry-After` before its body is read, even signed ones. Signed reports spend nothing.
///
/// List your proxies: behind an unlisted one all clients share an address, and a forger who spends its budget
/// blocks the scanner. If the address is unknown, there is no such budget, but still limits on concurrency: 16
/// look-ups of public keys (4 of one client) and 2 checks of signatures (1 of one client), where clients with an
/// unknown address count as one.
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

/// A leaked key that was reported.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leak {
    /// The key.
    pub key: KeyId,
    /// The key's owner.
    pub owner: UserId,
    /// Whether it was active until now.
    pub was_active: bool,
    /// The scanner's name for this type of key.
    pub kind: String,
    /// Where it was found, if the scanner said so.
    pub url: Option<String>,
    /// The kind of place, such as `commit`.
    pub source: Option<String>,
    /// Whether its owner was notified.
    pub delivery: Delivery,
}

impl Leaks {
    /// Finds keys with the verifier, revokes them in the keyring, and accepts reports that are signed by one of
    /// these keys.
    #[must_use]
    pub fn new(keyring: Keyring, verifier: Verifier, keys: impl PublicKeys) -> Self {
        let (keys, listener) = (Arc::new(keys), Arc::new(|_: &Leak| ()));
        let (client, limit, budget) = (ClientAddr::peer(), MAX_BODY_LEN, Budget::new(CAP, MAX_BODY_LEN));
        let failures = Arc::new(Throttle::default());
        let (lookups, checks) = (Arc::new(Bulkhead::new(LOOKUPS)), Arc::new(Bulkhead::new(CHECKS)));
        Self { keyring, verifier, keys, client, limit, budget, failures, lookups, checks, listener }
    }

    /// Sets how often one client may send unsigned reports; the default is `50/5s`: ten a second, and fifty at
    /// once. The keyring's clock is used. Clones count together.
    #[must_use]
    pub fn failures(self, limit: Limit) -> Self {
        Self { failures: Arc::new(Throttle::new(limit)), ..self }
    }

    /// Sets how to find the client's address. Reports are read before their signature is verified, so each client
    /// has only a share of the 16 MiB for all of them, and a budget of [failures](Self::failures). The default is
    /// the TCP peer; behind proxies, list them.
    #[must_use]
    pub fn client_addr(self, client: ClientAddr) -> Self {
        Self { client, ..self }
    }

    /// Sets a function that is called for each leaked key of ours.
    #[must_use]
    pub fn on_leak(mut self, listener: impl Fn(&Leak) + Send + Sync + 'static) -> Self {
        self.listener = Arc::new(listener);
        self
    }

    /// Sets the size in bytes of the largest body that is read; larger ones get 413. The default is 1 MiB, about a
    /// thousand keys.
    #[must_use]
    pub fn limit(mut self, bytes: NonZeroUsize) -> Self {
        let bytes = bytes.get();
        self.limit = bytes;
        self.budget = Budget::new(CAP.max(bytes), bytes);
        self
    }

    /// The route. Mount it under any path.
    pub fn route<S: Clone + Send + Sync + 'static>(self) -> MethodRouter<S> {
        let (client, budget) = (self.client.clone(), self.budget.clone());
        let settle = from_fn(move |request: Request, next: Next| {
            let room = budget.room(client.sender(&Head::of(&request)));
            unread_body::settle(request, next, room)
        });
        let route = post(async move |request: Request| match self.answer(request).await {
            Ok(found) => Json(found).into_response(),
            Err(NotTaken::Forged) => RouteError::from(&INVALID_SIGNATURE).into_response(),
            // The layer does not know the signer, so the refusal is rendered here.
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
        // The charge is held until the whole report has been processed.
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
            // An entry without a token is ignored.
            let Some(token) = text("token") else { continue };
            let kind = text("type").unwrap_or_default();
            let known = match self.end(token, kind, text("url"), text("source")).await {
                Ok(known) => known,
                // A corrupt row will be corrupt at the next attempt too, so it must not block the other keys in the
                // report.
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

    /// Returns the body if its signature is valid.
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

    /// Revokes a leaked key; returns whether it is one of ours.
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

/// Why a report was not accepted.
enum NotTaken {
    Forged,
    Auth(AuthError),
}

impl NotTaken {
    /// Whether the sender is to blame, and not a failure on our side.
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

/// Waits for a permit, if a place to wait in is left.
async fn permit(of: &Bulkhead<Sender>, one: &Sender) -> Result<Permit<Sender>, AuthError> {
    of.acquire(one).await.map_err(|Full| error(AuthErrorKind::Overloaded))
}

/// Whether the store reported a corrupt row.
fn is_torn(error: &AuthError) -> bool {
    matches!(error.source().and_then(<dyn Error>::downcast_ref), Some(StoreError::Corrupt(_)))
}

/// Returns the value of a header that occurs exactly once.
fn only<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.next().is_some() { None } else { first.to_str().ok() }
}

/// The hash of a token as the scanning program defines it, independent of the keys' own digests.
fn hex(digest: &KeyDigest) -> String {
    digest.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaks").field("limit", &self.limit).finish_non_exhaustive()
    }
}
