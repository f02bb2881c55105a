//! [`ApiKeyAuth`]: the layer, and its settings.

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
/// use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
/// use tower_api_key::store::MemoryStore;
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
/// `Router::route_layer` does not. If the layer is around a router instead of in it, [`Endpoints`] cannot be
/// compared with routes; see its documentation.
///
/// Put a `CorsLayer`, a `TraceLayer` and a `CatchPanicLayer` outside, so that they see refusals too. A
/// decompression layer also belongs outside if a scheme reads bodies. Outer layers see headers before they are
/// marked sensitive: put tower-http's `SetSensitiveRequestHeadersLayer` around a layer that prints them. A
/// concurrency limit counts a request from before its body is read, whether it is inside or outside.
///
/// Cloning is cheap; clones share one cap for buffered bodies.
#[must_use = "a layer does nothing until it is added to a service"]
pub struct ApiKeyAuth<Sch, R = ProblemDetails> {
    authenticator: Arc<Authenticator<Sch, R>>,
}

impl<Sch: Describe> ApiKeyAuth<Sch> {
    /// Creates a layer that verifies the keys that `scheme` finds against `store`.
    ///
    /// `MemoryStore` and `SqliteStore` are both a key store and a directory. `(keys, directory)` combines two
    /// stores. [`NoProjects(keys)`](crate::store::NoProjects) is for applications without projects.
    pub fn new<S: KeyStore + Directory>(store: S, scheme: Sch) -> Self {
        Self::with_verifier(Verifier::new(store), scheme)
    }

    /// Creates a layer with a verifier that you have configured: for foreign keys, a throttle, or one environment
    /// only.
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
    /// If no credential was sent, the refusal has the messages of the first scheme.
    pub fn or<Other: Describe>(self, other: Other) -> ApiKeyAuth<Or<Sch, Other>, R> {
        self.rebuilt(|scheme, renderer| (Arc::new(Or::of(scheme, other)), renderer))
    }

    /// Replaces the renderer of refusals by a closure, or by a type of your own.
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

    /// Declares endpoints: what they do, whether they need a project, whether a key is optional, and which are
    /// public. Replaces earlier declarations.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Pattern`], [`ConfigError::Contradiction`].
    pub fn endpoints(self, endpoints: Endpoints) -> Result<Self, ConfigError> {
        let table = endpoints.build()?;
        Ok(self.with(|authenticator| authenticator.endpoints = table))
    }

    /// Returns the routes without a declaration, and the declarations that match none of the routes. Use it in a
    /// test, since neither is an error by itself. Pass every route that the layer guards, as the router knows it,
    /// with the prefixes of nested routers.
    ///
    /// A declaration that matches no route has no effect. If it was meant to restrict an endpoint, as in
    /// `write(Method::GET, "/export")`, read-only keys might get through.
    ///
    /// ```
    /// use http::Method;
    /// use tower_api_key::scheme::Bearer;
    /// use tower_api_key::store::MemoryStore;
    /// use tower_api_key::{ApiKeyAuth, Endpoints};
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

    /// Sets how the client's address is found, for keys that are restricted to addresses (R56) and for the
    /// [throttle](Verifier::throttle). The default is the address of the TCP peer. Behind proxies, name the proxies
    /// that are trusted.
    pub fn client_addr(self, client: ClientAddr) -> Self {
        self.with(|authenticator| authenticator.client = client)
    }

    /// Refuses requests over plain HTTP with 403, before the credential is looked at, and does not redirect (R14).
    /// Public endpoints stay open. Where a key is optional, requests without one are refused too.
    ///
    /// A layer does not see TLS. It learns of it from a trusted proxy ([`client_addr`](Self::client_addr)), or from
    /// your listener, through a [`Proto`](crate::client_addr::Proto) in the request's extensions. If neither
    /// reports HTTPS, every request is refused.
    pub fn require_https(self) -> Self {
        self.with(|authenticator| authenticator.require_https = true)
    }

    /// Sets the URL of a page that says what to do after a rotation. Every response to a request with a key in its
    /// [grace period](crate::Grace) links to it, in addition to the headers `Deprecation` and `Sunset`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Link`] unless it is an absolute `http` or `https` URL.
    pub fn rotation_guide(self, url: &str) -> Result<Self, ConfigError> {
        let link = Link::to(url)?;
        Ok(self.with(|authenticator| authenticator.stamps.guide_to(link)))
    }

    /// Lets CORS preflights (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) through, without a
    /// principal. This is only needed if the `CorsLayer` is inside this layer. Browsers send no credentials with
    /// preflights.
    pub fn pass_preflight(self) -> Self {
        self.with(|authenticator| authenticator.pass_preflight = true)
    }
}

impl<Sch, R: 'static> ApiKeyAuth<Sch, R> {
    /// Describes what this layer, as configured so far, does to an API: for API documents, and for other pages that
    /// show people how to call the API.
    #[must_use]
    pub fn description(&self) -> LayerDescription {
        let Authenticator { stamps, endpoints, renderer, require_https, .. } = &*self.authenticator;
        let refusal_body = RefusalBody::of(&**renderer);
        LayerDescription::new(stamps.schemes().to_vec(), endpoints.clone(), *require_https, refusal_body)
    }

    /// Returns an explainer, which says how this layer, as configured so far, answers a request and why. Support
    /// needs it when a client reports a 403. See [`explain`](crate::explain).
    pub fn explainer(&self) -> Explainer {
        Explainer::new(self.authenticator.verifier.clone(), self.description())
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
