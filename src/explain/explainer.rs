//! [`Explainer`]: explains what a layer would answer to a described request, and why.

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use super::explanation::Explanation;
use crate::credentials::Claims;
use crate::endpoint::{Declared, Target, plain};
use crate::layer_description::LayerDescription;
use crate::record::KeyRecord;
use crate::restriction::RequestContext;
use crate::scheme_info::SchemeInfo;
use crate::verifier::Verifier;

/// Explains what a layer would answer to requests; [`ApiKeyAuth::explainer`](crate::ApiKeyAuth::explainer) makes one.
/// Cloning is cheap.
#[derive(Clone)]
pub struct Explainer(Arc<Layer>);

/// The parts of a layer that an explanation needs.
struct Layer {
    verifier: Verifier,
    description: LayerDescription,
}

/// A description of a request, without its key. What is not set is unknown.
#[derive(Clone, Debug)]
#[must_use = "a question has no effect by itself; pass it to `Explainer::explain`"]
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
    /// Describes a request with this method.
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

    /// Sets the route that the router matched, as declared there: `/v1/users/{id}`.
    pub fn route(mut self, pattern: impl Into<String>) -> Self {
        self.route = Some(pattern.into());
        self
    }

    /// Sets the path. Without a [`route`](Self::route), no router has matched it: it is compared with the
    /// declarations if the layer compares paths ([`Endpoints::by_path`](crate::Endpoints::by_path)), and otherwise
    /// the endpoint is unknown. With a route, the path matters only if the route is undeclared and has parameters,
    /// and the path itself is declared to do more than its method suggests.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// Sets the layer's scheme by its name, such as `bearer`. The default is the first scheme.
    pub fn scheme(mut self, name: impl Into<String>) -> Self {
        self.scheme = Some(name.into());
        self
    }

    /// Sets the claimed user, for schemes that read one. The default is the key's owner.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Sets the named project, for schemes that read one.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }

    /// Sets the client's address.
    pub fn address(mut self, address: impl Into<IpAddr>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets the `Referer`.
    pub fn referrer(mut self, referrer: impl Into<String>) -> Self {
        self.referrer = Some(referrer.into());
        self
    }

    /// Sets the `Origin`.
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// Describes a request without TLS. The default is with TLS.
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

/// The error if the layer has no scheme of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the layer has no such scheme: name one of {}", .0.join(", "))]
pub struct UnknownScheme(Vec<&'static str>);

impl Explainer {
    pub(crate) fn new(verifier: Verifier, description: LayerDescription) -> Self {
        Self(Arc::new(Layer { verifier, description }))
    }

    /// Returns what the layer would answer to such a request with this key, and why. Nothing is counted or changed.
    ///
    /// Find the key's record by its id with [`Keyring::get`](crate::Keyring::get). The explanation uses the record
    /// that the layer's own store has at this moment.
    ///
    /// # Errors
    ///
    /// [`UnknownScheme`]. A store that fails is not an error here but an explained answer: 503.
    pub async fn explain(&self, key: &KeyRecord, question: &Question) -> Result<Explanation, UnknownScheme> {
        let Layer { verifier, description } = &*self.0;
        let (schemes, endpoints) = (description.schemes(), description.endpoints());
        let scheme = match &question.scheme {
            None => schemes.first(),
            Some(name) => Some(
                schemes
                    .iter()
                    .find(|scheme| scheme.name() == name)
                    .ok_or_else(|| UnknownScheme(schemes.iter().map(SchemeInfo::name).collect()))?,
            ),
        };
        let path = question.path.as_deref();
        let declared = endpoints.at(&question.method, || question.target(), || plain([path, None]));
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
        let facts = question.facts().by_path(endpoints.compares_paths());
        let explanation = verifier.explain(key, &claims, endpoint, &facts).await;
        let explanation = explanation.over_tls(description.requires_https(), question.in_clear, scheme);
        Ok(if optional { explanation.where_optional() } else { explanation })
    }
}

impl std::fmt::Debug for Explainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Explainer").field("schemes", &self.0.description.schemes()).finish_non_exhaustive()
    }
}
