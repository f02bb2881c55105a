//! The events of `tracing`: their levels and exactly these fields.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use tower_api_key::observer::Tracing;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{CorruptRow, KeyStore, NoProjects, StoreError};
use tower_api_key::{
    ApiKeyAuth, Environment, KeyDigest, KeyFormat, KeyId, KeyRecord, KeyUpdate, Keyring, NewKey, Verifier,
};
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::{app, id_of, with_bearer, with_body};
use test_kit::{World, echo, request, send, user};

/// Each event of this crate as one line: level, then fields. Of other events only the text, to look for secrets.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<(Vec<String>, String)>>);

impl Heard {
    fn lines(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().0)
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        let mut heard = self.0.lock().unwrap();
        heard.1 += &line.0;
        if event.metadata().target() == "tower_api_key" {
            heard.0.push(line.0);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Fails(fn() -> StoreError);

#[async_trait]
impl KeyStore for Fails {
    async fn find(&self, _: &KeyDigest) -> Result<Option<Arc<KeyRecord>>, StoreError> {
        Err((self.0)())
    }
}

/// C13-02, C13-09, C11-18: a fixed set of fields, the key by its id, no secret, and no line breaks from a client.
#[tokio::test]
async fn c13_02_events_have_their_fields_and_no_more() {
    let world = World::new().await;
    let heard = Heard::default();
    let _listening = tracing::subscriber::set_default(heard.clone());
    let app = app(Verifier::new(world.store.clone()).observer(Tracing));
    let (own, revoked) = (id_of(&world, &world.own).await, id_of(&world, &world.revoked).await);
    send(&app, with_bearer("/x?a=path", &world.own)).await;
    send(&app, with_bearer("/x", &world.revoked)).await;
    send(&app, with_body("/x", &world.b, "u_own")).await;
    send(&app, request("GET", "/x", &[], "")).await;
    let lines = heard.lines();
    let b = id_of(&world, &world.b).await;
    assert_eq!(
        lines,
        [
            format!(r#"DEBUG outcome="accepted" scheme="bearer" key_id="{own}""#),
            format!(r#"DEBUG outcome="refused" kind="revoked_key" scheme="bearer" key_id="{revoked}""#),
            r#"WARN warning="body_sender_unknown""#.to_owned(),
            format!(r#"DEBUG outcome="refused" kind="user_mismatch" scheme="json-body" key_id="{b}""#),
            r#"DEBUG outcome="refused" kind="missing_credentials""#.to_owned(),
        ]
    );

    let keyring = Keyring::new(world.store.clone()).observer(Tracing);
    let issued = keyring.issue(NewKey::user_level(user("u_own"), "x")).await.unwrap();
    keyring.update(issued.id(), KeyUpdate::new().name("x level=ERROR")).await.unwrap();
    let id = issued.id();
    assert_eq!(
        heard.lines(),
        [
            format!(r#"INFO event="issued" key_id="{id}" by="system""#),
            format!(r#"INFO event="amended:name" key_id="{id}" by="system""#),
        ]
    );

    let text = heard.0.lock().unwrap().1.clone();
    for key in [&world.own, &world.revoked, &world.b, issued.key()] {
        for part in [key.expose_secret(), &key.expose_secret()[8..], &key.expose_secret()[43..]] {
            assert!(!text.contains(part), "an event shows a secret");
        }
    }
}

#[tokio::test]
async fn levels_match_the_urgency() {
    let heard = Heard::default();
    let _listening = tracing::subscriber::set_default(heard.clone());
    let key = KeyFormat::default().generate(Environment::Live).unwrap();
    type Row = (fn() -> StoreError, &'static str);
    let rows: [Row; 3] = [
        (
            || StoreError::failed("what a driver quotes"),
            r#"ERROR outcome="failed" kind="store_failed" scheme="bearer" error=the store failed"#,
        ),
        (
            || StoreError::Timeout,
            r#"ERROR outcome="failed" kind="store_timeout" scheme="bearer" error=the store did not answer in time"#,
        ),
        (
            || {
                StoreError::Corrupt(
                    CorruptRow::new("its limits do not parse").of_key(&KeyId::new("k").unwrap()),
                )
            },
            r#"WARN outcome="failed" kind="store_failed" scheme="bearer" key_id="k" error=key k: its limits do not parse"#,
        ),
    ];
    for (fails, line) in rows {
        let app = app(Verifier::new(NoProjects(Fails(fails))).observer(Tracing));
        assert_eq!(send(&app, with_bearer("/x", &key)).await.status, 503);
        assert_eq!(heard.lines(), [line]);
    }
    let verifier = Verifier::new(NoProjects(Fails(|| StoreError::Overloaded))).observer(Tracing);
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default()).require_https();
    send(&Router::new().fallback(echo).layer(auth), with_bearer("/x", &key)).await;
    assert_eq!(heard.lines(), [r#"INFO outcome="refused" kind="insecure_transport""#]);
}

#[derive(Debug)]
struct Because(&'static str, Option<Box<Because>>);

impl std::fmt::Display for Because {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Because {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.1.as_ref().map(|cause| &**cause as _)
    }
}

/// The causes of an error are logged only on request.
#[tokio::test]
async fn c17_f2_the_causes_of_a_store_error_are_logged_on_request() {
    let heard = Heard::default();
    let _listening = tracing::subscriber::set_default(heard.clone());
    let key = KeyFormat::default().generate(Environment::Live).unwrap();
    let fails: fn() -> StoreError = || {
        let root = Because("the disk is full", None);
        // One error that is shared by several waiting requests.
        let inner = StoreError::failed(Because("a statement was refused", Some(Box::new(root))));
        StoreError::failed(Arc::new(inner))
    };
    let start = r#"ERROR outcome="failed" kind="store_failed" scheme="bearer" error=the store failed"#;
    let told = async |verifier: Verifier| {
        assert_eq!(send(&app(verifier), with_bearer("/x", &key)).await.status, 503);
        heard.lines()
    };
    assert_eq!(told(Verifier::new(NoProjects(Fails(fails))).observer(Tracing)).await, [start]);
    assert_eq!(
        told(Verifier::new(NoProjects(Fails(fails))).observer(Tracing::with_causes())).await,
        [format!("{start}: a statement was refused: the disk is full")]
    );
    // Everything else is the same.
    let corrupt: fn() -> StoreError = || StoreError::corrupt("a name is no text");
    let (plain, causes) = (
        told(Verifier::new(NoProjects(Fails(corrupt))).observer(Tracing)).await,
        told(Verifier::new(NoProjects(Fails(corrupt))).observer(Tracing::with_causes())).await,
    );
    assert_eq!(plain, causes);
    let world = World::new().await;
    let keyring = Keyring::new(world.store.clone()).observer(Tracing::with_causes());
    let issued = keyring.issue(NewKey::user_level(user("u_own"), "x")).await.unwrap();
    assert_eq!(heard.lines(), [format!(r#"INFO event="issued" key_id="{}" by="system""#, issued.id())]);
    let app = app(Verifier::new(world.store.clone()).observer(Tracing::with_causes()));
    let own = id_of(&world, &world.own).await;
    send(&app, with_bearer("/x", &world.own)).await;
    assert_eq!(heard.lines(), [format!(r#"DEBUG outcome="accepted" scheme="bearer" key_id="{own}""#)]);
}
