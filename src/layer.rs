//! [`ApiKeyAuth`], and its knobs.

use std::fmt;
use std::sync::Arc;

use tower::Layer;

use crate::authenticate::Authenticator;
use crate::client_addr::ClientAddr;
use crate::config_error::ConfigError;
use crate::deprecation::Link;
use crate::endpoint::{EndpointTable, Endpoints, Undeclared};
use crate::explain::Explainer;
use crate::layer_description::{LayerDescription, RefusalBody};
use crate::render::ProblemDetails;
use crate::response_headers::ResponseHeaders;
use crate::scheme::{Describe, Or};
use crate::service::ApiKeyService;
use crate::store::{Directory, KeyStore};
use crate::verifier::Verifier;

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
pub struct ApiKeyAuth<Sch, R = ProblemDetails> {
    authenticator: Arc<Authenticator<Sch, R>>,
}

impl<Sch: Describe> ApiKeyAuth<Sch> {
    /// Asks `store` about the keys that `scheme` finds.
    ///
    /// `MemoryStore` and `SqliteStore` know keys and people both. `(keys, directory)` joins two, and
    /// [`NoProjects(keys)`](crate::store::NoProjects) says that there are no projects.
    pub fn new<S: KeyStore + Directory>(store: S, scheme: Sch) -> Self {
        Self::with_verifier(Verifier::new(store), scheme)
    }

    /// With a verifier that was set up by hand: another key format, foreign keys, one environment, a clock, a deadline.
    pub fn with_verifier(verifier: Verifier, scheme: Sch) -> Self {
        let authenticator = Authenticator {
            stamps: ResponseHeaders::of(&scheme),
            scheme: Arc::new(scheme),
            verifier,
            endpoints: EndpointTable::default(),
            renderer: Arc::new(ProblemDetails::default()),
            pass_preflight: false,
            client: ClientAddr::peer(),
            require_https: false,
        };
        Self { authenticator: Arc::new(authenticator) }
    }
}

impl<Sch: Describe, R> ApiKeyAuth<Sch, R> {
    /// Also accepts another scheme. A request that uses two is refused with 400.
    ///
    /// The first scheme's words are used where no credential was sent.
    pub fn or<Other: Describe>(self, other: Other) -> ApiKeyAuth<Or<Sch, Other>, R> {
        self.rebuilt(|scheme, renderer| (Arc::new(Or::of(scheme, other)), renderer))
    }

    /// Renders refusals in another way: a closure, or a type of your own.
    pub fn render_errors<Other>(self, renderer: Other) -> ApiKeyAuth<Sch, Other> {
        self.rebuilt(|scheme, _| (scheme, Arc::new(renderer)))
    }

    fn rebuilt<S: Describe, Other>(
        self,
        change: impl FnOnce(Arc<Sch>, Arc<R>) -> (Arc<S>, Arc<Other>),
    ) -> ApiKeyAuth<S, Other> {
        let before = Arc::unwrap_or_clone(self.authenticator);
        let (scheme, renderer) = change(before.scheme, before.renderer);
        let authenticator = Authenticator {
            stamps: before.stamps.rebuilt(&*scheme),
            scheme,
            renderer,
            verifier: before.verifier,
            endpoints: before.endpoints,
            pass_preflight: before.pass_preflight,
            client: before.client,
            require_https: before.require_https,
        };
        ApiKeyAuth { authenticator: Arc::new(authenticator) }
    }

    fn with(mut self, change: impl FnOnce(&mut Authenticator<Sch, R>)) -> Self {
        change(Arc::make_mut(&mut self.authenticator));
        self
    }

    /// Declares endpoints: what they do, whether they need a project, where a key is optional, which are public. Replaces
    /// earlier declarations.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pattern`], [`ConfigError::Contradiction`].
    pub fn endpoints(self, endpoints: Endpoints) -> Result<Self, ConfigError> {
        let table = endpoints.build()?;
        Ok(self.with(|authenticator| authenticator.endpoints = table))
    }

    /// Which of these routes nothing is declared for, and which declarations are for none of them: for a test, since
    /// neither is an error by itself. Name every route that the layer guards as the router knows it, with the prefixes of
    /// nested routers.
    ///
    /// A declaration that no route meets does nothing. Where it was to narrow, as in `write(Method::GET, "/export")`,
    /// keys that may only read might get through.
    ///
    /// ```
    /// use http::Method;
    /// use tower_api_key::scheme::Bearer;
    /// use tower_api_key::{ApiKeyAuth, Endpoints, MemoryStore};
    ///
    /// let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
    ///     .endpoints(Endpoints::new().public(Method::GET, "/health").write(Method::GET, "/export"))?;
    ///
    /// let found = auth.undeclared(["/health", "/v1/export", "/v1/projects"]);
    /// assert_eq!(found.declarations, ["GET /export"]); // the router calls it /v1/export
    /// assert_eq!(found.routes, ["/v1/export", "/v1/projects"]); // guarded, and `GET` reads
    /// # Ok::<(), tower_api_key::ConfigError>(())
    /// ```
    #[must_use]
    pub fn undeclared<P: AsRef<str>>(&self, routes: impl IntoIterator<Item = P>) -> Undeclared {
        self.authenticator.endpoints.undeclared(routes)
    }

    /// Whose address a request comes from, for keys that are restricted to some (R56) and for the
    /// [throttle](Verifier::throttle). The default is the peer's; behind
    /// proxies, name them.
    pub fn client_addr(self, client: ClientAddr) -> Self {
        self.with(|authenticator| authenticator.client = client)
    }

    /// Refuses requests that came in clear with 403, before the credential is looked at, and does not redirect (R14).
    /// Public endpoints stay open; where a key is optional, requests without one are refused, too.
    ///
    /// A layer does not see TLS: a trusted proxy says it ([`client_addr`](Self::client_addr)), or your listener, by a
    /// [`Proto`](crate::client_addr::Proto) in the request's extensions. Where nobody says it, every request is refused.
    pub fn require_https(self, required: bool) -> Self {
        self.with(|authenticator| authenticator.require_https = required)
    }

    /// Where people read what to do when their key was replaced: a `Link` on every answer to somebody who was let in with
    /// a key in a rotation's [grace](crate::Grace), beside its `Deprecation` and `Sunset`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] unless it is an absolute `http` or `https` URL.
    pub fn rotation_guide(self, url: &str) -> Result<Self, ConfigError> {
        let link = Link::to(url)?;
        Ok(self.with(|authenticator| authenticator.stamps.guide_to(link)))
    }

    /// Explains what this layer, as it is set up so far, answers to requests: what support needs when somebody says "403".
    /// See [`explain`](crate::explain).
    pub fn explainer(&self) -> Explainer {
        let Authenticator { scheme, verifier, endpoints, require_https, .. } = &*self.authenticator;
        let mut schemes = Vec::new();
        scheme.describe_each(&mut |scheme| schemes.push(scheme.clone()));
        Explainer::new(verifier.clone(), endpoints.clone(), schemes, *require_https)
    }

    /// Lets CORS preflights (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) through, without a principal.
    /// Only needed where the `CorsLayer` is inside; browsers send no credentials with them.
    pub fn pass_preflight(self, pass: bool) -> Self {
        self.with(|authenticator| authenticator.pass_preflight = pass)
    }
}

impl<Sch, R: 'static> ApiKeyAuth<Sch, R> {
    /// What this layer, as it is set up so far, does to an API: for documents of the API, and for whatever else shows
    /// people how to call it.
    #[must_use]
    pub fn description(&self) -> LayerDescription {
        let Authenticator { stamps, endpoints, renderer, require_https, .. } = &*self.authenticator;
        let refusal_body = RefusalBody::of(&**renderer);
        LayerDescription::new(stamps.schemes().to_vec(), endpoints.clone(), *require_https, refusal_body)
    }
}

impl<Sch, R> Clone for ApiKeyAuth<Sch, R> {
    fn clone(&self) -> Self {
        Self { authenticator: Arc::clone(&self.authenticator) }
    }
}

impl<S, Sch, R> Layer<S> for ApiKeyAuth<Sch, R> {
    type Service = ApiKeyService<S, Sch, R>;

    fn layer(&self, inner: S) -> Self::Service {
        ApiKeyService::new(inner, Arc::clone(&self.authenticator))
    }
}

impl<Sch: fmt::Debug, R> fmt::Debug for ApiKeyAuth<Sch, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeyAuth").field("scheme", &self.authenticator.scheme).finish_non_exhaustive()
    }
}
