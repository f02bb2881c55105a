//! [`ApiKeyAuth`], and its knobs.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::endpoint::{EndpointTable, Endpoints};
use crate::error::ConfigError;
use crate::render::{Problem, Stamps};
use crate::scheme::{Describe, Or};
use crate::service::{ApiKeyService, Shared};
use crate::store::{Directory, KeyStore};
use crate::verify::Verifier;

/// The layer: lets requests with a valid key through, with a [`Principal`](crate::Principal) in their extensions, and
/// refuses all others.
///
/// ```
/// use axum::{Router, routing::get};
/// use http::Method;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
/// use tower_api_key::{ApiKeyAuth, Endpoints};
///
/// let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
///     .or(ApiKeyHeader::default())
///     .or(JsonBody::default())
///     .endpoints(
///         Endpoints::new()
///             .project_optional(Method::GET, "/projects")
///             .read(Method::POST, "/projects/status")
///             .public(Method::GET, "/health"),
///     )?;
/// let app: Router = Router::new().route("/health", get(|| async { "ok" })).layer(auth);
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
///
/// # Where to put it
///
/// `Router::layer` also guards the router's fallback, so that unknown routes answer 401 before 404.
/// `Router::route_layer` does not. Around a router instead of inside, [`Endpoints`] cannot be compared with routes; see
/// there.
///
/// A `CorsLayer`, a `TraceLayer` and a `CatchPanicLayer` belong outside, so that they see refusals too; so does a
/// decompression layer if bodies are read. What stands outside sees headers before they are marked sensitive: put
/// tower-http's `SetSensitiveRequestHeadersLayer` around a layer that prints them. A limit on concurrency counts a request
/// from before its body is read, inside as well as outside.
///
/// Cloning is cheap; clones share one cap for buffered bodies.
#[must_use = "a layer does nothing until it is added to a service"]
pub struct ApiKeyAuth<Sch, R = Problem> {
    shared: Arc<Shared<Sch, R>>,
}

impl<Sch: Describe> ApiKeyAuth<Sch> {
    /// Asks `store` about the keys that `scheme` finds.
    ///
    /// `MemoryStore` and `SqliteStore` know keys and people both. `(keys, directory)` joins two, and
    /// [`NoProjects(keys)`](crate::store::NoProjects) says that there are no projects.
    pub fn new<S: KeyStore + Directory>(store: S, scheme: Sch) -> Self {
        Self::with_verifier(Verifier::new(store), scheme)
    }

    /// With a verifier that was set up by hand: another key format, foreign keys, a clock, a deadline.
    pub fn with_verifier(verifier: Verifier, scheme: Sch) -> Self {
        let stamps = Stamps::of(&scheme);
        let (endpoints, renderer) = (EndpointTable::default(), Problem::default());
        let pass_preflight = false;
        Self { shared: Arc::new(Shared { scheme, verifier, endpoints, renderer, stamps, pass_preflight }) }
    }
}

impl<Sch: Describe + Clone, R: Clone> ApiKeyAuth<Sch, R> {
    /// Also accepts another scheme. A request that uses two is refused with 400.
    ///
    /// The first scheme's words are used where no credential was sent.
    pub fn or<Other: Describe>(self, other: Other) -> ApiKeyAuth<Or<Sch, Other>, R> {
        let Shared { scheme, verifier, endpoints, renderer, pass_preflight, .. } =
            Arc::unwrap_or_clone(self.shared);
        let scheme = Or::new(scheme, other);
        let stamps = Stamps::of(&scheme);
        ApiKeyAuth {
            shared: Arc::new(Shared { scheme, verifier, endpoints, renderer, stamps, pass_preflight }),
        }
    }

    /// Declares endpoints: what they do, whether they need a project, which are public. Replaces earlier declarations.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pattern`], [`ConfigError::Contradiction`].
    pub fn endpoints(mut self, endpoints: Endpoints) -> Result<Self, ConfigError> {
        Arc::make_mut(&mut self.shared).endpoints = endpoints.build()?;
        Ok(self)
    }

    /// Renders refusals in another way: a closure, or a type of your own.
    pub fn render_errors<Other>(self, renderer: Other) -> ApiKeyAuth<Sch, Other> {
        let Shared { scheme, verifier, endpoints, stamps, pass_preflight, .. } =
            Arc::unwrap_or_clone(self.shared);
        ApiKeyAuth {
            shared: Arc::new(Shared { scheme, verifier, endpoints, renderer, stamps, pass_preflight }),
        }
    }

    /// Lets CORS preflights (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) through, without a principal.
    /// Only needed where the `CorsLayer` is inside; browsers send no credentials with them.
    pub fn pass_preflight(mut self, pass: bool) -> Self {
        Arc::make_mut(&mut self.shared).pass_preflight = pass;
        self
    }
}

impl<Sch, R> Clone for ApiKeyAuth<Sch, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<S, Sch, R> Layer<S> for ApiKeyAuth<Sch, R> {
    type Service = ApiKeyService<S, Sch, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ApiKeyService::new(inner, Arc::clone(&self.shared))
    }
}

impl<Sch: fmt::Debug, R> fmt::Debug for ApiKeyAuth<Sch, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyAuth").field("scheme", &self.shared.scheme).finish_non_exhaustive()
    }
}
