//! [`Explainer`]: describes a request, and asks what a layer would answer.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::explanation::Explanation;
use crate::credentials::Claims;
use crate::endpoint::{Declared, EndpointTable, Target, plain};
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::scheme_info::SchemeInfo;
use crate::verifier::Verifier;

/// Explains what a layer answers to requests; [`ApiKeyAuth::explainer`](crate::ApiKeyAuth::explainer) makes one. Cloning
/// is cheap.
#[derive(Clone)]
pub struct Explainer(Arc<Layer>);

/// What an explanation needs of a layer.
struct Layer {
    verifier: Verifier,
    endpoints: EndpointTable,
    schemes: Vec<SchemeInfo>,
    require_https: bool,
}

/// A request as somebody describes it, without its key. What is not said about it is unknown.
#[derive(Clone, Debug)]
#[must_use = "a question is not asked by itself; pass it to `Explainer::explain`"]
pub struct Question {
    method: Method,
    route: Option<String>,
    path: Option<String>,
    scheme: Option<String>,
    user: Option<String>,
    project: Option<String>,
    address: Option<IpAddr>,
    referrer: Option<String>,
    origin: Option<String>,
    in_clear: bool,
}

impl Question {
    /// A request of that method.
    pub fn new(method: Method) -> Self {
        Self {
            method,
            route: None,
            path: None,
            scheme: None,
            user: None,
            project: None,
            address: None,
            referrer: None,
            origin: None,
            in_clear: false,
        }
    }

    /// At the route that the router matched, as it was declared there: `/v1/users/{id}`.
    pub fn route(mut self, pattern: impl Into<String>) -> Self {
        self.route = Some(pattern.into());
        self
    }

    /// At this path. Without a [`route`](Self::route), no router has matched it, and it is compared where the layer
    /// compares paths ([`Endpoints::by_path`](crate::Endpoints::by_path)); elsewhere no endpoint is known by it. With a
    /// route, it only makes a difference if the route is not declared, has parameters, and the path is one that is
    /// declared to do more than its method says.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Through the layer's scheme of this name, such as `bearer`. The default is its first.
    pub fn scheme(mut self, name: impl Into<String>) -> Self {
        self.scheme = Some(name.into());
        self
    }

    /// Which claims this user: only for schemes that have a place for it. The default is the owner.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Which names this project: only for schemes that read one.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// From a client of this address.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// With this `Referer`.
    pub fn referrer(mut self, referrer: impl Into<String>) -> Self {
        self.referrer = Some(referrer.into());
        self
    }

    /// With this `Origin`.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Without TLS. The default is with it.
    pub fn in_clear(mut self) -> Self {
        self.in_clear = true;
        self
    }

    fn target(&self) -> Target<'_> {
        match (&self.route, &self.path) {
            (Some(pattern), _) => Target::Route(pattern),
            (None, Some(path)) => Target::path(path),
            (None, None) => Target::Unknown,
        }
    }

    fn facts(&self) -> RequestContext<'_> {
        let mut facts = RequestContext::new().at(&self.method, self.target());
        if let Some(address) = self.address {
            facts = facts.address(address);
        }
        if let Some(referrer) = &self.referrer {
            facts = facts.referrer(referrer);
        }
        if let Some(origin) = &self.origin {
            facts = facts.origin(origin);
        }
        facts
    }
}

/// The layer has no scheme of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the layer has no such scheme: name one of {}", .0.join(", "))]
pub struct UnknownScheme(Vec<&'static str>);

impl Explainer {
    pub(crate) fn new(
        verifier: Verifier,
        endpoints: EndpointTable,
        schemes: Vec<SchemeInfo>,
        require_https: bool,
    ) -> Self {
        Self(Arc::new(Layer { verifier, endpoints, schemes, require_https }))
    }

    /// What the layer answers to such a request with this key, and why. Nothing is counted, and nothing changes.
    ///
    /// The key's record is found by its id: [`Keyring::get`](crate::Keyring::get). What of it counts is what the layer's
    /// own store says at this moment.
    ///
    /// # Errors
    ///
    /// [`UnknownScheme`]. A store that fails is no error but an answer: 503.
    pub async fn explain(&self, key: &KeyRecord, question: &Question) -> Result<Explanation, UnknownScheme> {
        let layer = &*self.0;
        let scheme = match &question.scheme {
            None => layer.schemes.first(),
            Some(name) => Some(
                layer
                    .schemes
                    .iter()
                    .find(|scheme| scheme.name() == name)
                    .ok_or_else(|| UnknownScheme(layer.schemes.iter().map(SchemeInfo::name).collect()))?,
            ),
        };
        let path = question.path.as_deref();
        let declared = layer.endpoints.at(&question.method, || question.target(), || plain([path, None]));
        let (endpoint, optional) = match declared {
            Declared::Public => return Ok(Explanation::public(key)),
            Declared::Optional(endpoint) => (endpoint, true),
            Declared::Required(endpoint) => (endpoint, false),
        };
        let mut claims = Claims::new().project(question.project.as_deref());
        if let Some(user) = &question.user {
            claims = claims.user(Some(&**user));
        }
        if let Some(scheme) = scheme {
            claims = claims.through(scheme);
        }
        let facts = question.facts().by_path(layer.endpoints.compares_paths());
        let explanation = layer.verifier.explain(key, &claims, endpoint, &facts).await;
        let explanation = explanation.over_tls(layer.require_https, question.in_clear, scheme);
        Ok(if optional { explanation.where_optional() } else { explanation })
    }
}

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explainer").field("schemes", &self.0.schemes).finish_non_exhaustive()
    }
}
