//! The command `explain`: what a service answers to a request with a key.

use http::Method;
use tower_api_key::explain::Question;
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::{ApiKeyAuth, Endpoints, Verifier};

use crate::args::{self, Class};
use crate::error::CliError;
use crate::keys::found;
use crate::show::{Out, say};
use crate::store::{Purpose, StoreOptions};

pub(crate) async fn explain(at: &StoreOptions, out: &Out, request: &args::Explain) -> Result<(), CliError> {
    let id = at.id(&request.id)?;
    let method = Method::from_bytes(request.method.as_bytes())
        .map_err(|_| CliError::usage("--method must be an HTTP method, such as GET"))?;
    let mut endpoints = Endpoints::new();
    if let (Some(class), Some(route)) = (request.class, &request.route) {
        endpoints = match class {
            Class::Read => endpoints.read(method.clone(), route),
            Class::Write => endpoints.write(method.clone(), route),
            Class::Manage => endpoints.manage(method.clone(), route),
        };
    }
    // A layer as the service may have it. The service's declarations of endpoints are unknown here.
    let layer = |verifier: Verifier| {
        ApiKeyAuth::with_verifier(verifier, Bearer::default())
            .or(ApiKeyHeader::default())
            .or(JsonBody::default())
            .endpoints(endpoints)
            .map_err(CliError::usage)
    };
    let mut question = Question::new(method).scheme(&request.scheme);
    if let Some(route) = &request.route {
        question = question.route(route);
    }
    if let Some(address) = request.address {
        question = question.address(address);
    }
    if let Some(referrer) = &request.referrer {
        question = question.referrer(referrer);
    }
    if let Some(origin) = &request.origin {
        question = question.origin(origin);
    }
    if let Some(project) = &request.project {
        question = question.project(project);
    }
    if let Some(user) = &request.user {
        question = question.user(user);
    }
    at.with(Purpose::Read, async |store| {
        let key = found(store, &id).await?;
        if store.has_directory && store.accounts.account_of(&key.owner).await?.is_none() {
            say(format_args!("note: {}", store.unknown(&key.owner)));
        }
        let layer = layer(store.verifier.clone())?;
        let explanation = layer.explainer().explain(&key, &question).await.map_err(CliError::usage)?;
        let json = serde_json::to_value(&explanation).map_err(|error| CliError::Store(error.to_string()))?;
        out.answer(&json, || explanation.to_string())
    })
    .await
}
