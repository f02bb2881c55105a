//! `/validate`: whether the key is valid, and for what (R50).

use axum::Json;
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};
use tower_api_key::ProjectId;

use super::body;
use super::caller::Caller;
use super::time;

/// Describes the key of the request to its holder: 200, or the layer's 401.
///
/// ```json
/// {"success": true, "message": "API key is valid", "code": 200,
///  "data": {"valid": true, "key_level": "USER", "user_id": "alice", "project_id": null, "environment": "live", "expiry": null},
///  "errors": {}, "meta_data": {}}
/// ```
///
/// `project_id` is the key's project, or the one that the request named; `expiry` is in RFC 3339, in UTC.
///
/// ```
/// use axum::Router;
/// use tower_api_key_manage as manage;
///
/// let app: Router = Router::new().route("/api/v1/validate", manage::validate());
/// ```
pub fn validate<S: Clone + Send + Sync + 'static>() -> MethodRouter<S> {
    body::settled(get(answer))
}

async fn answer(Caller { who, .. }: Caller) -> Json<Value> {
    Json(json!({
        "success": true,
        "message": "API key is valid",
        "code": 200,
        "data": {
            "valid": true,
            "key_level": who.level().as_str(),
            "user_id": who.user_id().as_str(),
            "project_id": who.project().map(ProjectId::as_str),
            "environment": who.environment().as_str(),
            "expiry": who.expires_at().map(time::format),
        },
        "errors": {},
        "meta_data": {},
    }))
}
