//! How do I move clients from keys in bodies to keys in headers without breaking them?
//!
//! ```text
//! cargo run --example moving_schemes
//! ```
//!
//! It serves the steps of docs/migration.md side by side, each under its own path, makes keys for two clients, and
//! prints requests to try, each below the status that it gets. After each step, `GET /{step}/report` says which
//! client still uses which scheme. `ADDR` sets the address.

use std::error::Error;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::State;
use axum::routing::{any, get};
use http::{Method, StatusCode};
use tokio::net::TcpListener;
use tower_api_key::keyring::{Report, RetirementStatus};
use tower_api_key::observer::UsageRecorder;
use tower_api_key::restriction::{Restrictions, SchemeRestriction};
use tower_api_key::scheme::{ApiKeyHeader, Bearer, JsonBody};
use tower_api_key::store::{Accounts as _, MemoryStore, Project};
use tower_api_key::{
    ApiKeyAuth, Deprecation, Endpoints, Grace, Keyring, NewKey, Principal, ProjectId, UserId, Verifier,
};

const GUIDE: &str = "https://example.com/docs/keys-in-headers";
const ROTATED: &str = "https://example.com/docs/new-keys";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

async fn echo(who: Principal) -> String {
    format!("{} came through {}\n", who.key_name(), who.scheme().unwrap_or("no scheme"))
}

async fn report(
    State((keyring, recorder)): State<(Keyring, UsageRecorder)>,
) -> Result<String, (StatusCode, String)> {
    let failed = |error: String| (StatusCode::SERVICE_UNAVAILABLE, error);
    // Usage is written once a minute; this writes it now.
    recorder.flush().await.map_err(|error| failed(error.to_string()))?;
    let alice = UserId::new("alice").map_err(|error| failed(error.to_string()))?;
    let report = keyring.report(&alice).await.map_err(|error| failed(error.to_string()))?;
    Ok(shown(&report))
}

fn shown(report: &Report) -> String {
    let mut text = String::new();
    for key in report.keys() {
        let ways: Vec<_> = key.usage().iter().map(|way| format!("{} x{}", way.through, way.count)).collect();
        let ways = if ways.is_empty() { "never".to_owned() } else { ways.join(", ") };
        let ending = match report.ending(&key.record().id, 7 * DAY) {
            None => "",
            Some(RetirementStatus::Safe) => "; replaced: safe to end now",
            Some(RetirementStatus::Wait(_)) => "; replaced: not safe to end yet",
            Some(_) => "; replaced: nobody can tell whether it is safe to end",
        };
        text += &format!("{}: {ways}{ending}\n", key.record().name);
    }
    let left = report.through("json-body").count();
    text + &format!("keys that came by json-body: {left}\n")
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let store = MemoryStore::new();
    let keyring = Keyring::new(store.clone());
    let alice = UserId::new("alice")?;
    store.create_account("acme", &alice).await?;
    store.create_project("acme", &Project::new(ProjectId::new("p1")?, "The first")).await?;
    let shop = keyring.issue(NewKey::user_level(alice.clone(), "shop")).await?;
    let nightly = keyring.issue(NewKey::user_level(alice, "nightly job")).await?;
    let now = SystemTime::now();
    let since = |time: SystemTime| Deprecation::new(time.into());
    let recorder = UsageRecorder::new(store.clone());
    let verifier = Verifier::new(store.clone()).observer(recorder.clone());
    tokio::spawn(recorder.clone().run());
    let routes = || {
        let report = get(report).with_state((keyring.clone(), recorder.clone()));
        Router::new().route("/echo", any(echo)).route("/report", report)
    };
    // The report is for operators. It is public here only so that you can look at it.
    let open = |step: &str| Endpoints::new().public(Method::GET, format!("/{step}/report"));

    // 1. Before: the key in the body.
    let before = ApiKeyAuth::with_verifier(verifier.clone(), JsonBody::default()).endpoints(open("1"))?;

    // 2. The new schemes are accepted, and responses to the old one say that it is deprecated. Clients that can only set
    //    a header of their own use `X-API-Key` first.
    let old = JsonBody::default().deprecated(since(now)?.link(GUIDE)?);
    let both = ApiKeyAuth::with_verifier(verifier.clone(), Bearer::default())
        .or(ApiKeyHeader::default())
        .or(old)
        .endpoints(open("2"))?;

    // 3. The responses say when the old scheme ends. `X-API-Key` is now deprecated too.
    let ends = since(now)?.sunset((now + 6 * MONTH).into())?.link(GUIDE)?;
    let ending = ApiKeyAuth::with_verifier(verifier.clone(), Bearer::default())
        .rotation_guide(ROTATED)?
        .or(ApiKeyHeader::default().deprecated(since(now)?.link(GUIDE)?))
        .or(JsonBody::default().deprecated(ends))
        .endpoints(open("3"))?;

    // 4. The old scheme has ended: 401, and the challenges name the others. Later the scheme is removed.
    let over = since(now - 6 * MONTH)?.sunset((now - MONTH).into())?.link(GUIDE)?;
    let ended = ApiKeyAuth::with_verifier(verifier.clone(), Bearer::default())
        .rotation_guide(ROTATED)?
        .or(JsonBody::default().deprecated(over))
        .endpoints(open("4"))?;

    // Bodies may have been logged, and the keys with them. After the shop has moved, its key is replaced, with a
    // grace period, by one that is not accepted in a body.
    let moved = keyring.issue(NewKey::user_level(UserId::new("alice")?, "second shop")).await?;
    let bearer_only = Restrictions::none().schemes(SchemeRestriction::allow(["bearer"])?);
    let next = keyring.rotate(moved.id(), Grace::For(MONTH)).await?;
    keyring.restrict(next.id(), &bearer_only).await?;

    let app = Router::new()
        .nest("/1", routes().layer(before))
        .nest("/2", routes().layer(both))
        .nest("/3", routes().layer(ending))
        .nest("/4", routes().layer(ended));

    let listener = TcpListener::bind(std::env::var("ADDR").as_deref().unwrap_or("127.0.0.1:3000")).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!("Listening on {url}");
    let in_body = |status: &str, step: u8, key: &tower_api_key::ApiKey| {
        println!("# {status}\ncurl -i {url}/{step}/echo -H 'Content-Type: application/json' \\");
        println!(r#"  -d '{{"apiKey": "{}", "userId": "alice", "projectId": "p1"}}'"#, key.expose_secret());
    };
    let in_header = |status: &str, step: u8, name: &str, text: String| {
        println!("# {status}\ncurl -i {url}/{step}/echo -H '{name}: {text}' -H 'X-Project-ID: p1'");
    };
    let bearer = |key: &tower_api_key::ApiKey| format!("Bearer {}", key.expose_secret());
    let look = |step: u8| println!("# 200, with who came how\ncurl {url}/{step}/report");

    in_body("200", 1, shop.key());
    in_body("200", 1, nightly.key());
    look(1);
    in_body("200, with Deprecation and Link", 2, nightly.key());
    in_header("200, with the same key", 2, "X-API-Key", shop.key().expose_secret().to_owned());
    look(2);
    in_body("200, with Deprecation, Sunset and Link", 3, nightly.key());
    in_header("200, with the same key again", 3, "Authorization", bearer(shop.key()));
    in_header(
        "200, with Deprecation and Sunset of a key that was replaced",
        3,
        "Authorization",
        bearer(moved.key()),
    );
    in_header("200, with the key in its place", 3, "Authorization", bearer(next.key()));
    in_body("401, because that key is bound to Bearer", 3, next.key());
    look(3);
    in_body("401, because its sunset is over", 4, nightly.key());
    in_header("200, with the same key", 4, "Authorization", bearer(nightly.key()));
    look(4);
    println!("Stop with Ctrl-C.");
    axum::serve(listener, app).await?;
    Ok(())
}
