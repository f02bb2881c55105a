//! [`LayerDescription`]: what a layer does to an API, for API documents.

use std::any::Any;

use http::{HeaderValue, Method};

use crate::auth_error::AuthErrorKind;
use crate::endpoint::{Declared, EndpointTable};
use crate::render::{EmptyOrGrpc, ProblemDetails};
use crate::scheme_info::SchemeInfo;

/// The kinds of refusals that every layer has, ordered by status.
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
/// The further kinds of refusals if a scheme reads bodies.
const OF_BODIES: [AuthErrorKind; 4] = [
    AuthErrorKind::MalformedBody,
    AuthErrorKind::UnsupportedMediaType,
    AuthErrorKind::BodyTooLarge,
    AuthErrorKind::BodyTimeout,
];

/// What a layer does to an API: its schemes, what each endpoint requires, and what refusals look like. It is made
/// from the layer itself, so an API document made from it agrees with the layer.
///
/// [`ApiKeyAuth::description`](crate::ApiKeyAuth::description) returns one. OpenAPI documents
/// (`tower-api-key-openapi`) and the sample commands of a portal are made from it.
///
/// ```
/// use http::Method;
/// use tower_api_key::scheme::Bearer;
/// use tower_api_key::store::MemoryStore;
/// use tower_api_key::{ApiKeyAuth, Declared, Endpoint, Endpoints};
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

/// The kind of body of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusalBody {
    /// A [`ProblemDetails`].
    ProblemDetails {
        /// `application/problem+json`, or the content type that the layer sets instead.
        content_type: HeaderValue,
    },
    /// No body, as [`EmptyOrGrpc`] answers.
    Empty,
    /// The application's own renderer makes the body. Its content type and shape are unknown.
    Custom,
}

impl RefusalBody {
    /// Returns what this renderer makes; [`Custom`](Self::Custom) if it is not one of this crate's.
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

    /// The layer's schemes, in the order in which they were added.
    #[must_use]
    pub fn schemes(&self) -> &[SchemeInfo] {
        &self.schemes
    }

    /// The schemes through which a request with this method can send a key: all schemes that read headers, and
    /// those that read the bodies of this method.
    pub fn schemes_of<'d>(&'d self, method: &'d Method) -> impl Iterator<Item = &'d SchemeInfo> {
        self.schemes.iter().filter(|scheme| !scheme.reads_bodies() || scheme.body_methods().contains(method))
    }

    /// Whether an endpoint needs a key, and what a request to it does. The path is written as in a router or an API
    /// document, with all prefixes: `/users/{id}`. The names of parameters do not matter. `{rest}` also finds the
    /// declaration of `{*rest}`, since API documents cannot write a catch-all.
    #[must_use]
    pub fn endpoint(&self, method: &Method, path: &str) -> Declared {
        self.endpoints.of_documented(method, path)
    }

    pub(crate) fn endpoints(&self) -> &EndpointTable {
        &self.endpoints
    }

    /// Whether requests over plain HTTP are refused.
    #[must_use]
    pub fn requires_https(&self) -> bool {
        self.requires_https
    }

    /// The kind of body of a refusal.
    #[must_use]
    pub fn refusal_body(&self) -> &RefusalBody {
        &self.refusal_body
    }

    /// The reasons for which a request with this method can be refused, at an endpoint that is not public.
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
