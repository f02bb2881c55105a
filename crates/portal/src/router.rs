//! The routes of the portal.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, map_response};
use axum::routing::get;
use tower_api_key::body_budget::Sender;
use tower_api_key::unread_body;

use super::portal::Portal;
use super::{actions, assets, pages, response};

impl Portal {
    /// Makes the router. [Nest](Router::nest) it under a path, or merge it to mount it at the root.
    pub fn router<S>(self) -> Router<S> {
        let budget = self.budget.clone();
        // The sender of an unread form is not determined.
        let settle = from_fn(move |request: Request, next: Next| {
            let room = budget.room(Sender::UNKNOWN);
            unread_body::settle(request, next, room)
        });
        Router::new()
            .route("/", get(pages::keys))
            .route("/new", get(pages::new_key).post(actions::create))
            .route("/keys/{id}", get(pages::key))
            .route("/keys/{id}/rotate", get(pages::rotate).post(actions::rotate))
            .route("/keys/{id}/settings", get(pages::settings).post(actions::change))
            .route("/keys/{id}/restrictions", get(pages::restrictions).post(actions::restrict))
            .route("/keys/{id}/revoke", get(pages::revoke).post(actions::revoke))
            .route("/assets/{file}", get(assets::serve))
            .layer(map_response(response::guard))
            .layer(settle)
            .with_state(Arc::new(self))
    }
}
