//! The layer's refusals in an OpenAPI document.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::json;
use tower_api_key::AuthErrorKind;
use tower_api_key::scheme_info::SchemeInfo;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::schema::{AllOfBuilder, AnyOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{Content, Ref, RefOr, Response};

use crate::document::{Document, place};
use crate::schemes;

type Headers = BTreeMap<String, RefOr<Header>>;
type Responses = BTreeMap<String, RefOr<Response>>;

/// The responses of a layer that refuses a request.
pub(crate) struct Answers {
    /// The prefix of component names.
    name: String,
    /// The content type and the schema of the bodies, if known.
    body: Option<(String, Schema)>,
}

impl Answers {
    pub(crate) fn of(schemes: &[SchemeInfo], body: Option<(String, Schema)>) -> Self {
        let names: Vec<String> = schemes.iter().map(schemes::component_name).collect();
        Self { name: names.join("."), body }
    }

    /// Adds the layer's responses to those of an operation.
    pub(crate) fn write(
        &self,
        document: &mut Document<'_>,
        responses: &mut Responses,
        refusals: impl Iterator<Item = AuthErrorKind>,
    ) {
        for (status, response) in responses.iter_mut() {
            if let RefOr::T(response) = response {
                add(&mut response.headers, Self::beside(status));
            }
        }
        let content = self.body.as_ref().map(|(content_type, schema)| {
            let schemas = &mut document.components.schemas;
            let is_problem = *schema == problem();
            let name = place(schemas, "ApiKeyProblem", RefOr::T(schema.clone()));
            Body { content_type, name, is_problem }
        });
        for (status, codes) in codes(refusals) {
            let ours = Self::answer(status, codes, content.as_ref());
            let status = status.as_str();
            match responses.get_mut(status) {
                Some(RefOr::T(theirs)) => join(theirs, ours),
                Some(RefOr::Ref(_)) => {}
                None => {
                    let name = format!("{}-{status}", self.name);
                    let name = place(&mut document.components.responses, &name, RefOr::T(ours));
                    let there = RefOr::Ref(Ref::from_response_name(name));
                    responses.insert(status.to_owned(), there);
                }
            }
        }
    }

    fn answer(status: StatusCode, codes: Vec<&'static str>, body: Option<&Body<'_>>) -> Response {
        let quoted: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
        let mut response = Response::new(format!("{}: {}.", meaning(status), quoted.join(", ")));
        if let Some(body) = body {
            let content = Content::new(Some(body.schema(status, codes)));
            response.content.insert(body.content_type.to_owned(), RefOr::T(content));
        }
        add(&mut response.headers, Self::beside(status.as_str()));
        add(&mut response.headers, of_status(status));
        response
    }

    /// The headers that the layer adds to every response with this status.
    fn beside(status: &str) -> Vec<(&'static str, &'static str)> {
        let mut headers = Vec::new();
        if status != "401" {
            headers.push(("RateLimit", "What is left of the key's limits, if it has any."));
            headers.push(("RateLimit-Policy", "The most restrictive of the key's limits, if it has any."));
        }
        headers.push(("Deprecation", "Since when the scheme or the key is deprecated, if it is (RFC 9745)."));
        headers.push(("Sunset", "When it ends (RFC 8594)."));
        headers.push(("Link", "A page that says what to do."));
        headers
    }
}

/// The body of refusals in a document.
struct Body<'a> {
    content_type: &'a str,
    /// The name of the component with its schema.
    name: String,
    is_problem: bool,
}

impl Body<'_> {
    fn schema(&self, status: StatusCode, codes: Vec<&'static str>) -> RefOr<Schema> {
        let whole = RefOr::<Schema>::Ref(Ref::from_schema_name(&self.name));
        if !self.is_problem {
            return whole;
        }
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let text = ObjectBuilder::new().schema_type(Type::String);
        let narrowed = ObjectBuilder::new()
            .schema_type(Type::Object)
            .property("status", number.enum_values(Some([status.as_u16()])))
            .property("error", text.enum_values(Some(codes)));
        RefOr::T(AllOfBuilder::new().item(whole).item(narrowed).build().into())
    }
}

/// The machine-readable codes of some refusals, by status.
fn codes(refusals: impl Iterator<Item = AuthErrorKind>) -> BTreeMap<StatusCode, Vec<&'static str>> {
    let mut by_status = BTreeMap::<_, Vec<_>>::new();
    for kind in refusals {
        let codes = by_status.entry(kind.status()).or_default();
        if !codes.contains(&kind.public_code()) {
            codes.push(kind.public_code());
        }
    }
    by_status
}

fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The credentials are malformed, or a required project is missing",
        StatusCode::UNAUTHORIZED => "There is no valid API key",
        StatusCode::FORBIDDEN => "The key is valid, but has no access",
        StatusCode::REQUEST_TIMEOUT => "The body did not arrive in time",
        StatusCode::PAYLOAD_TOO_LARGE => "The body is too large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The content type or coding of the body is not supported",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests with the key, or too many failed attempts",
        _ => "The key could not be checked: keep it, and try again",
    }
}

fn of_status(status: StatusCode) -> Vec<(&'static str, &'static str)> {
    match status {
        StatusCode::UNAUTHORIZED => {
            vec![("WWW-Authenticate", "One challenge for each scheme, each on its own line.")]
        }
        StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {
            vec![("WWW-Authenticate", "With bearer tokens: what was wrong (RFC 6750).")]
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            vec![("Retry-After", "How many seconds to wait.")]
        }
        _ => Vec::new(),
    }
}

/// Adds headers; existing ones are not changed.
fn add(headers: &mut Headers, more: Vec<(&'static str, &'static str)>) {
    for (name, said) in more {
        if !headers.keys().any(|there| there.eq_ignore_ascii_case(name)) {
            let kind = if name == "Retry-After" { Type::Integer } else { Type::String };
            let schema = ObjectBuilder::new().schema_type(kind).build();
            let header = HeaderBuilder::new().schema(Some(schema)).description(Some(said)).build();
            headers.insert(name.to_owned(), RefOr::T(header));
        }
    }
}

/// Adds the layer's response to an existing one.
fn join(theirs: &mut Response, ours: Response) {
    theirs.description = format!("{}\n\n{}", theirs.description, ours.description);
    for (name, header) in ours.headers {
        theirs.headers.entry(name).or_insert(header);
    }
    for (content_type, ours) in ours.content {
        let Some(RefOr::T(theirs)) = theirs.content.get_mut(&content_type) else {
            theirs.content.entry(content_type).or_insert(ours);
            continue;
        };
        let RefOr::T(ours) = ours else { continue };
        if let (Some(before), Some(more)) = (theirs.schema.take(), ours.schema) {
            theirs.schema = Some(RefOr::T(either(before, more)));
        }
    }
}

fn either(one: RefOr<Schema>, other: RefOr<Schema>) -> Schema {
    // `anyOf`, because two responses may both match.
    AnyOfBuilder::new().item(one).item(other).build().into()
}

pub(crate) fn problem() -> Schema {
    let text = |said: &str| ObjectBuilder::new().schema_type(Type::String).description(Some(said.to_owned()));
    let number =
        |said: &str| ObjectBuilder::new().schema_type(Type::Integer).description(Some(said.to_owned()));
    let members = [
        ("type", text("A page that explains the problem.")),
        ("title", text("The message, in the words of the scheme that was used.")),
        ("status", number("The status of the response.")),
        ("success", ObjectBuilder::new().schema_type(Type::Boolean).enum_values(Some([false]))),
        ("message", text("The same as `title`.")),
        ("error", text("The error code.")),
        ("code", number("The same as `status`.")),
    ];
    let object = ObjectBuilder::new()
        .schema_type(Type::Object)
        .description(Some("An error response: an RFC 9457 problem."))
        .examples([json!({
            "type": "https://docs.rs/tower-api-key/latest/tower_api_key/problems/#invalid_api_key",
            "title": "Invalid API key", "status": 401,
            "success": false, "message": "Invalid API key", "error": "invalid_api_key", "code": 401,
        })]);
    let object = members
        .into_iter()
        .fold(object, |object, (name, schema)| object.property(name, schema).required(name));
    object.build().into()
}
