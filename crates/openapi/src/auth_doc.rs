//! [`AuthDoc`]: writes what a layer does into an OpenAPI document.

use http::Method;
use tower_api_key::{AccessClass, Declared, Endpoint, LayerDescription, RefusalBody};
use utoipa::Modify;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::{Components, OpenApi, OpenApiVersion, Schema};

use crate::answers::{self, Answers};
use crate::document::Document;
use crate::schemes::Schemes;

/// Writes what a layer does to an API into a document, by [`modify`](Modify::modify). See [the crate](crate).
#[must_use = "it has no effect until it modifies a document"]
pub struct AuthDoc {
    layer: LayerDescription,
    answers: Answers,
    under: String,
}

impl AuthDoc {
    /// Creates it from [`ApiKeyAuth::description`](tower_api_key::ApiKeyAuth::description).
    ///
    /// If the layer has a renderer of your own, describe its output with [`refusals`](Self::refusals).
    pub fn of(layer: &LayerDescription) -> Self {
        let body = match layer.refusal_body() {
            RefusalBody::ProblemDetails { content_type } => {
                Some((content_type.to_str().unwrap_or_default().to_owned(), answers::problem()))
            }
            _ => None,
        };
        Self { answers: Answers::of(layer.schemes(), body), layer: layer.clone(), under: String::new() }
    }

    /// Sets the content type and the schema of refusals' bodies, if
    /// [`render_errors`](tower_api_key::ApiKeyAuth::render_errors) replaces
    /// [`ProblemDetails`](tower_api_key::render::ProblemDetails). The layer cannot know them: without this, the document
    /// lists the refusals without their bodies.
    pub fn refusals(mut self, content_type: &str, schema: Schema) -> Self {
        self.answers = Answers::of(self.layer.schemes(), Some((content_type.to_owned(), schema)));
        self
    }

    /// Applies only to paths with this prefix (`/v1` applies to `/v1` and `/v1/charges`, but not to `/v10`): for
    /// documents with several layers, and with routes outside of all layers.
    pub fn under(mut self, prefix: &str) -> Self {
        prefix.trim_end_matches('/').clone_into(&mut self.under);
        self
    }

    /// The schema of [`ProblemDetails`](tower_api_key::render::ProblemDetails), the default body of refusals.
    #[must_use]
    pub fn problem() -> Schema {
        answers::problem()
    }

    fn covers(&self, path: &str) -> bool {
        path.strip_prefix(&*self.under).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    fn write(&self, document: &mut Document<'_>, path: &str, method: &Method, operation: &mut Operation) {
        let (endpoint, optional) = match self.layer.endpoint(method, path) {
            Declared::Public => {
                // An empty list, which overrides a requirement for all operations of the document.
                operation.security = Some(Vec::new());
                return;
            }
            Declared::Optional(endpoint) => (endpoint, true),
            Declared::Required(endpoint) => (endpoint, false),
            // What this release does not know it says nothing of.
            _ => return,
        };
        let schemes = Schemes::of(&self.layer);
        operation.security = Some(schemes.requirements(document, method, optional));
        schemes.parameters(operation, endpoint);
        schemes.body(document, method, operation, optional);
        let said = in_words(endpoint, optional, schemes.in_words(method));
        operation.description = Some(match operation.description.take() {
            Some(before) => format!("{before}\n\n{said}"),
            None => said,
        });
        let refusals = self.layer.refusals(method);
        self.answers.write(document, &mut operation.responses.responses, refusals);
    }
}

impl Modify for AuthDoc {
    fn modify(&self, openapi: &mut OpenApi) {
        let knows_deprecation = openapi.openapi == OpenApiVersion::Version32;
        let components = openapi.components.get_or_insert_with(Components::default);
        let mut document = Document { components, knows_deprecation };
        for (path, item) in &mut openapi.paths.paths {
            if self.covers(path) {
                for (method, operation) in operations(item) {
                    self.write(&mut document, path, &method, operation);
                }
            }
        }
    }
}

impl std::fmt::Debug for AuthDoc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthDoc")
            .field("layer", &self.layer)
            .field("under", &self.under)
            .finish_non_exhaustive()
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let fixed = [
        (Method::GET, &mut item.get),
        (Method::PUT, &mut item.put),
        (Method::POST, &mut item.post),
        (Method::DELETE, &mut item.delete),
        (Method::OPTIONS, &mut item.options),
        (Method::HEAD, &mut item.head),
        (Method::PATCH, &mut item.patch),
        (Method::TRACE, &mut item.trace),
    ];
    let fixed = fixed.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)));
    let query = item.query.as_mut().map(|operation| ("QUERY", operation));
    let others = item.additional_operations.iter_mut().map(|(name, operation)| (&**name, operation));
    let others = query.into_iter().chain(others);
    fixed.chain(others.filter_map(|(name, operation)| Some((name.parse().ok()?, operation))))
}

/// Describes an operation for people.
fn in_words(endpoint: Endpoint, optional: bool, schemes: String) -> String {
    let does = match endpoint.class {
        AccessClass::Read => "reads",
        AccessClass::Write => "writes: not for keys of read-only members",
        // Managing keys, and any stricter class of a later version.
        _ => "manages keys: only for user-level keys, and not for those of read-only members",
    };
    let project = if endpoint.project_optional { " The project is optional." } else { "" };
    if optional {
        format!(
            "Takes an API key ({schemes}) or none. If a key is sent, it must be valid. The endpoint {does}.{project}"
        )
    } else {
        format!("Needs an API key ({schemes}). The endpoint {does}.{project}")
    }
}
