//! Changes that happen between two answers of the store, while a form is being processed.

use tower_api_key::Clock as _;

use super::*;
use test_kit::meddling::{Event, Meddling};

/// Sends a form and lets `event` happen at each possible moment; checks the response, and what was made or changed
/// after `event`.
async fn at_every_moment(
    event: Event,
    path: &str,
    fields: &[(&str, &str)],
    look: impl Fn(&Answer, &[KeyRecord], &str),
) {
    for directory in [true, false] {
        for moment in 0.. {
            assert!(moment < 64, "more moments than are tried");
            let mut site = Site::new().await;
            let key = site.world.key("u_full", |_| ()).await;
            let keys = site.keys("u_full").await;
            let key = keys.iter().find(|record| record.digest.matches(&key.digest())).unwrap();
            let path = path.replace("{id}", key.id.as_str());
            let form = site.form("u_full.1", &path, fields).await;
            let who = (&key.id, &test_kit::user("u_full"));
            let store = Meddling::at(&site.world.store, &site.clock, event, who, moment).directory(directory);
            let keyring = if directory {
                ApiKeys::new(store.clone()).clock(site.clock.clone()).keyring()
            } else {
                ApiKeys::new((store.clone(), store.clone())).clock(site.clock.clone()).keyring()
            };
            site.app = Router::new().nest(AT, portal(keyring, store.clone()).router());
            let answer = site.post("u_full.1", &path, &form).await;
            if !store.hook.has_happened().await {
                assert!(moment >= 2, "{path}: only {moment} moments were tried");
                break;
            }
            let mut alive = store.hook.made_since().await;
            alive.retain(|key| key.is_active(site.clock.now()));
            look(&answer, &alive, &format!("{path}, {event:?} at moment {moment}, directory {directory}"));
        }
    }
}

const FORMS: [(&str, &[(&str, &str)]); 4] = [
    ("/new", &NEW),
    ("/keys/{id}/rotate", &[("grace", "none")]),
    ("/keys/{id}/rotate", &[("grace", "1d")]),
    ("/keys/{id}/settings", &[("name", "renamed")]),
];

#[tokio::test]
async fn c17_a1_no_form_makes_or_changes_a_key_after_its_owners_removal_has_returned() {
    for (path, fields) in FORMS {
        at_every_moment(Event::Remove, path, fields, |_, alive, what| {
            assert!(alive.is_empty(), "{what}: {alive:#?}");
        })
        .await;
    }
}

#[tokio::test]
async fn c17_a1_no_form_replaces_a_key_after_its_revocation_has_returned() {
    for (path, fields) in &FORMS[1..] {
        at_every_moment(Event::Revoke, path, fields, |_, alive, what| {
            assert!(alive.is_empty(), "{what}: {alive:#?}");
        })
        .await;
    }
}
/// A person who may only read from now on gets keys that can only read (R24).
#[tokio::test]
async fn c17_a1_a_person_who_is_demoted_meanwhile_gets_their_key() {
    at_every_moment(Event::Demote, "/new", &NEW, |answer, _, what| {
        assert_eq!(answer.status, StatusCode::CREATED, "{what}");
    })
    .await;
}
