//! `/projects`: which projects the key may access (R51).

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::routing::{MethodRouter, get};
use serde_json::{Value, json};
use tokio::time::timeout;
use tower_api_key::store::{Project, ProjectDirectory, StoreError};

use super::body;
use super::caller::Caller;
use super::refusal::RouteError;

/// How long the directory may take.
const DEADLINE: Duration = Duration::from_secs(1);

/// Lists the projects that the key may access: all of its owner's, or the key's own. READONLY users may call it.
///
/// ```json
/// {"success": true, "data": [{"id": "p1", "name": "Project 1"}]}
/// ```
///
/// If the directory does not answer within a second, the answer is 503.
///
/// ```
/// use axum::Router;
/// use tower_api_key_manage as manage;
/// use tower_api_key::store::MemoryStore;
///
/// let app: Router = Router::new().route("/api/v1/projects", manage::projects(MemoryStore::new()));
/// ```
pub fn projects<S: Clone + Send + Sync + 'static>(directory: impl ProjectDirectory) -> MethodRouter<S> {
    let directory = Arc::new(directory);
    body::settled(get(async move |caller: Caller| list(&*directory, &caller).await))
}

async fn list(directory: &impl ProjectDirectory, caller: &Caller) -> Result<Json<Value>, RouteError> {
    let asked = timeout(DEADLINE, directory.projects(caller.who.user_id())).await;
    let projects = asked.unwrap_or(Err(StoreError::Timeout)).map_err(|error| caller.store_failed(error))?;
    let own = caller.who.level().project();
    let accessible = projects.iter().filter(|project| own.is_none_or(|own| project.id == *own));
    let shown = |project: &Project| json!({"id": project.id.as_str(), "name": project.name});
    Ok(Json(json!({"success": true, "data": accessible.map(shown).collect::<Vec<_>>()})))
}
