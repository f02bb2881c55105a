//! [`LayerDescription`]: what a layer does to an API, for whatever describes the API to others.

use std::any::Any;

use http::{HeaderValue, Method};

use crate::auth_error::AuthErrorKind;
use crate::endpoint::{Declared, EndpointTable};
use crate::render::{EmptyOrGrpc, ProblemDetails};
use crate::scheme_info::SchemeInfo;

/// What a request can be refused for, whatever its schemes are; by status.
const ALWAYS: [AuthErrorKind; 22] = [
    AuthErrorKind::ConflictingCredentials,
    AuthErrorKind::ProjectRequired,
    AuthErrorKind::InvalidProject,
    AuthErrorKind::MissingCredentials,
    AuthErrorKind::MalformedKey,
    AuthErrorKind::UnknownKey,
    AuthErrorKind::RevokedKey,
    AuthErrorKind::ExpiredKey,
    AuthErrorKind::WrongEnvironment,
    AuthErrorKind::SchemeEnded,
    AuthErrorKind::OwnerDisabled,
    AuthErrorKind::SchemeNotAllowed,
    AuthErrorKind::UserMismatch,
    AuthErrorKind::ProjectMismatch,
    AuthErrorKind::Forbidden,
    AuthErrorKind::ReadOnly,
    AuthErrorKind::Restricted,
    AuthErrorKind::MissingScope,
    AuthErrorKind::RateLimited,
    AuthErrorKind::Overloaded,
    AuthErrorKind::StoreFailed,
    AuthErrorKind::StoreTimeout,
];
/// Where a scheme reads bodies.
const OF_BODIES: [AuthErrorKind; 4] = [
    AuthErrorKind::MalformedBody,
    AuthErrorKind::UnsupportedMediaType,
    AuthErrorKind::BodyTooLarge,
    AuthErrorKind::BodyTimeout,
];

/// What a layer does to an API: its schemes, what each endpoint asks for, and what refusals look like. It is the layer's
/// own data, so that a document made of it says what the layer does.
///
/// [`ApiKeyAuth::description`](crate::ApiKeyAuth::description) makes one. OpenAPI documents
/// (`tower-api-key-openapi`) and the command lines of a portal are made of it.
///
/// ```
/// use http::Method;
/// use tower_api_key::endpoint::{Declared, Endpoint};
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::{ApiKeyAuth, Endpoints, MemoryStore};
///
/// let layer = ApiKeyAuth::new(MemoryStore::new(), Bearer::default())
///     .endpoints(Endpoints::new().public(Method::GET, "/health"))?
///     .description();
///
/// assert_eq!(layer.schemes().iter().map(|scheme| scheme.name()).collect::<Vec<_>>(), ["bearer"]);
/// assert_eq!(layer.endpoint(&Method::GET, "/health"), Declared::Public);
/// assert_eq!(layer.endpoint(&Method::POST, "/projects"), Declared::Required(Endpoint::WRITE));
/// # Ok::<(), tower_api_key::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LayerDescription {
    schemes: Vec<SchemeInfo>,
    endpoints: EndpointTable,
    requires_https: bool,
    refusal_body: RefusalBody,
}

/// What the body of a refusal is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalBody {
    /// A [`ProblemDetails`].
    ProblemDetails {
        /// `application/problem+json`, or what the layer says in its place.
        content_type: HeaderValue,
    },
    /// None, as [`EmptyOrGrpc`] answers.
    Empty,
    /// Whatever a renderer of the application makes: a layer does not know its type and shape.
    Custom,
}

impl RefusalBody {
    /// What this renderer makes, if it is one of this crate's.
    pub(crate) fn of<R: 'static>(renderer: &R) -> Self {
        let renderer: &dyn Any = renderer;
        if let Some(problem) = renderer.downcast_ref::<ProblemDetails>() {
            Self::ProblemDetails { content_type: problem.content_type().clone() }
        } else if renderer.is::<EmptyOrGrpc>() {
            Self::Empty
        } else {
            Self::Custom
        }
    }
}

impl LayerDescription {
    pub(crate) fn new(
        schemes: Vec<SchemeInfo>,
        endpoints: EndpointTable,
        requires_https: bool,
        refusal_body: RefusalBody,
    ) -> Self {
        Self { schemes, endpoints, requires_https, refusal_body }
    }

    /// The layer's schemes, in their order.
    #[must_use]
    pub fn schemes(&self) -> &[SchemeInfo] {
        &self.schemes
    }

    /// The schemes by which a request with this method may carry a key: those that read heads, and those that read bodies
    /// of this method.
    pub fn schemes_of<'d>(&'d self, method: &'d Method) -> impl Iterator<Item = &'d SchemeInfo> {
        self.schemes.iter().filter(|scheme| !scheme.reads_bodies() || scheme.body_methods().contains(method))
    }

    /// Whom an endpoint is for, and what a request to it does. The path is one that a router or a document of the API
    /// names, prefixes included: `/users/{id}`. The names of parameters do not matter, and `{rest}` finds the declaration
    /// of `{*rest}`, too, since documents have no other way to write it.
    #[must_use]
    pub fn endpoint(&self, method: &Method, path: &str) -> Declared {
        self.endpoints.of_documented(method, path)
    }

    /// Whether requests that came in clear are refused.
    #[must_use]
    pub fn requires_https(&self) -> bool {
        self.requires_https
    }

    /// What the body of a refusal is.
    #[must_use]
    pub fn refusal_body(&self) -> &RefusalBody {
        &self.refusal_body
    }

    /// What a request with this method can be refused for, at an endpoint that is not public.
    pub fn refusals(&self, method: &Method) -> impl Iterator<Item = AuthErrorKind> {
        let reads_body = self.schemes_of(method).any(SchemeInfo::reads_bodies);
        let of_bodies = OF_BODIES.into_iter().filter(move |_| reads_body);
        let of_transport = self.requires_https.then_some(AuthErrorKind::InsecureTransport);
        ALWAYS.into_iter().chain(of_bodies).chain(of_transport)
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;
    use crate::auth_error::AuthError;
    use crate::layer::ApiKeyAuth;
    use crate::scheme::Bearer;
    use crate::store::MemoryStore;

    #[test]
    fn the_body_of_refusals_is_known_where_the_renderer_is() {
        let auth = ApiKeyAuth::new(MemoryStore::new(), Bearer::default());
        let problem = |content_type| {
            let content_type = HeaderValue::from_static(content_type);
            RefusalBody::ProblemDetails { content_type }
        };
        let body = |description: LayerDescription| description.refusal_body().clone();
        assert_eq!(body(auth.description()), problem("application/problem+json"));
        let plain = auth.clone().render_errors(ProblemDetails::default().plain_json());
        assert_eq!(body(plain.description()), problem("application/json"));
        assert_eq!(body(auth.clone().render_errors(EmptyOrGrpc).description()), RefusalBody::Empty);
        let own = auth.render_errors(|_: &AuthError| Response::new(()));
        assert_eq!(body(own.description()), RefusalBody::Custom);
    }
}
