//! Security schemes, parameters and bodies of a layer's schemes.

use http::header::AUTHORIZATION;
use http::{HeaderName, Method};
use tower_api_key::scheme_info::{SchemeInfo, spelled};
use tower_api_key::{Endpoint, LayerDescription};
use utoipa::openapi::path::{Operation, Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBody;
use utoipa::openapi::schema::{AllOfBuilder, KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{Content, Deprecated, Ref, RefOr, Required};

use crate::document::{Document, place, unspoken};

/// The schemes of a layer.
pub(crate) struct Schemes<'l>(&'l LayerDescription);

impl<'l> Schemes<'l> {
    pub(crate) fn of(layer: &'l LayerDescription) -> Self {
        Self(layer)
    }

    /// The requirement of any of the schemes. If a key is optional, the first alternative is no scheme.
    pub(crate) fn requirements(
        &self,
        document: &mut Document<'_>,
        method: &Method,
        optional: bool,
    ) -> Vec<SecurityRequirement> {
        let require = |info: &SchemeInfo| match security_scheme(info, document.knows_deprecation) {
            Some(scheme) => {
                let schemes = &mut document.components.security_schemes;
                SecurityRequirement::new(place(schemes, &component_name(info), RefOr::T(scheme)), NO_SCOPES)
            }
            None => unspoken(),
        };
        let mut any: Vec<SecurityRequirement> = self.0.schemes_of(method).map(require).collect();
        if optional {
            any.retain(|requirement| *requirement != unspoken());
            any.insert(0, unspoken());
        }
        // No scheme reads bodies of this method, so it cannot be called. Describing it as open would be worse.
        if any.is_empty() {
            any.push(unspoken());
        }
        any
    }

    /// The headers that name a project.
    pub(crate) fn parameters(&self, operation: &mut Operation, endpoint: Endpoint) {
        for info in self.0.schemes() {
            for header in info.other_headers() {
                let name = spelled(header);
                let parameters = operation.parameters.get_or_insert_default();
                let same = |there: &RefOr<Parameter>| match there {
                    RefOr::T(there) => there.name.eq_ignore_ascii_case(&name),
                    RefOr::Ref(_) => false,
                };
                if parameters.iter().any(same) {
                    continue;
                }
                let needed = info.needs_project() && !endpoint.project_optional;
                let said = if needed {
                    "The project. Required with user-level keys; with a project-level key, its own project or none."
                } else {
                    "The project, if the request is about one."
                };
                let text = ObjectBuilder::new().schema_type(Type::String).build();
                let parameter = ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some(said))
                    .schema(Some(text));
                parameters.push(RefOr::T(parameter.build()));
            }
        }
    }

    /// Adds the members with credentials to the operation's body.
    pub(crate) fn body(
        &self,
        document: &mut Document<'_>,
        method: &Method,
        operation: &mut Operation,
        optional: bool,
    ) {
        let only = self.0.schemes().len() == 1 && !optional;
        for info in self.0.schemes_of(method).filter(|info| info.reads_bodies()) {
            let name = format!("{}-credentials", component_name(info));
            let name = place(&mut document.components.schemas, &name, RefOr::T(members(info, only)));
            let ours = RefOr::Ref(Ref::from_schema_name(name));
            let body = operation.request_body.get_or_insert_with(|| RefOr::T(RequestBody::new()));
            let RefOr::T(body) = body else { continue };
            if only {
                body.required = Some(Required::True);
            }
            if body.content.is_empty() {
                let content = RefOr::T(Content::new(Some(ours)));
                body.content.insert("application/json".to_owned(), content);
                continue;
            }
            for (content_type, content) in &mut body.content {
                let RefOr::T(content) = content else { continue };
                if content_type.ends_with("json") {
                    content.schema = Some(match content.schema.take() {
                        Some(theirs) => {
                            RefOr::T(AllOfBuilder::new().item(theirs).item(ours.clone()).build().into())
                        }
                        None => ours.clone(),
                    });
                }
            }
        }
    }

    /// Says for people where a key may be sent.
    pub(crate) fn in_words(&self, method: &Method) -> String {
        let place = |info: &SchemeInfo| {
            let place = match (info.body_members(), secret_header(info)) {
                ([], Some(header)) => format!("`{}`", spelled(header)),
                ([], None) => info.name().to_owned(),
                (members, _) => {
                    let members: Vec<String> = members.iter().map(|name| format!("`{name}`")).collect();
                    format!("{} in the JSON body", members.join(", "))
                }
            };
            match info.deprecation() {
                Some(deprecation) => format!("{place}, {deprecation}"),
                None => place,
            }
        };
        let places: Vec<String> = self.0.schemes_of(method).map(place).collect();
        if places.is_empty() {
            "in a body, which this method has not".to_owned()
        } else {
            places.join(" or ")
        }
    }
}

const NO_SCOPES: [&str; 0] = [];

/// A valid component name, which has only letters, digits, `.`, `-` and `_`.
pub(crate) fn component_name(info: &SchemeInfo) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
    info.name().chars().map(|letter| if plain(letter) { letter } else { '-' }).collect()
}

/// `None` for a key in the body, for which OpenAPI has no security scheme.
fn security_scheme(info: &SchemeInfo, knows_deprecation: bool) -> Option<SecurityScheme> {
    let header = secret_header(info)?;
    let said = match info.deprecation() {
        Some(deprecation) => format!("An API key; {deprecation}."),
        None => "An API key.".to_owned(),
    };
    let deprecated = (knows_deprecation && info.deprecation().is_some()).then_some(Deprecated::True);
    Some(if *header == AUTHORIZATION && info.challenge().is_bearer() {
        let mut http = Http::new(HttpAuthScheme::Bearer);
        http.description = Some(said);
        http.deprecated = deprecated;
        SecurityScheme::Http(http)
    } else {
        let mut value = ApiKeyValue::with_description(spelled(header), said);
        value.deprecated = deprecated;
        SecurityScheme::ApiKey(ApiKey::Header(value))
    })
}

fn secret_header(info: &SchemeInfo) -> Option<&HeaderName> {
    info.secret_headers().first()
}

/// The schema of the members with credentials.
fn members(info: &SchemeInfo, only: bool) -> Schema {
    const SAID: &str = "Credentials that stand in the JSON body, beside what the operation wants there. OpenAPI has no \
        security scheme for them: the requirement that names none stands for them.";
    let said = match info.deprecation() {
        Some(deprecation) => format!("{SAID} This way is {deprecation}."),
        None => SAID.to_owned(),
    };
    let mut object = ObjectBuilder::new().schema_type(Type::Object).description(Some(said));
    for (index, name) in info.body_members().iter().enumerate() {
        let text = ObjectBuilder::new().schema_type(Type::String);
        let text = match index {
            0 => text
                .description(Some("The API key."))
                .format(Some(SchemaFormat::KnownFormat(KnownFormat::Password)))
                .write_only(true),
            1 => text.description(Some("The owner of the key.")),
            _ => text.description(Some(
                "The project. Required with user-level keys, unless the operation says otherwise.",
            )),
        };
        object = object.property(name, text);
        if only && index < 2 {
            object = object.required(name);
        }
    }
    object.build().into()
}
