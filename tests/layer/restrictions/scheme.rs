//! Restrictions by scheme: a key can be bound to some schemes, so that it does not work through one that its owner no
//! longer uses.

use tower_api_key::restriction::{Restrictions, SchemeRestriction};
use tower_api_key::{AuthError, AuthErrorKind, Grace, Keyring, NewKey};

use super::{PLACES, Place, Sites, Visit, restricted};
use test_kit::{World, user};

fn name(place: Place) -> &'static str {
    match place {
        Place::Bearer => "bearer",
        Place::Header => "api-key-header",
        Place::Body => "json-body",
    }
}

/// The responses of all sites to this key.
async fn let_in(sites: &Sites, key: &tower_api_key::ApiKey) -> Vec<(Place, String)> {
    let answers = sites.ask(&Visit::plain(), Some(key.expose_secret())).await;
    answers.into_iter().map(|(side, answer, _)| (side.place, answer.verdict())).collect()
}

#[tokio::test]
async fn a_key_comes_through_the_schemes_it_is_bound_to_and_no_others() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    for chosen in 0..8_u8 {
        let chosen: Vec<_> = PLACES
            .into_iter()
            .enumerate()
            .filter(|(at, _)| chosen & (1 << at) != 0)
            .map(|(_, p)| p)
            .collect();
        let names: Vec<_> = chosen.iter().map(|place| name(*place)).collect();
        for mode in ["enforce", "observe"] {
            let text = serde_json::json!({"schemes": {"mode": mode, "allow": names}}).to_string();
            let key = restricted(&world, &text).await;
            for (place, verdict) in let_in(&sites, &key).await {
                let may = mode == "observe" || chosen.contains(&place);
                assert_eq!(verdict, if may { "200:h" } else { "401/invalid_api_key" }, "{place:?}: {text}");
            }
        }
    }
    // An unknown scheme, or another spelling of a scheme, matches nothing.
    for names in [r#"["device-token"]"#, r#"["Bearer","JSON-BODY","api_key_header"]"#, "[]"] {
        let key = restricted(&world, &format!(r#"{{"schemes":{{"allow":{names}}}}}"#)).await;
        for (side, answer, _) in sites.ask(&Visit::plain(), Some(key.expose_secret())).await {
            let error =
                answer.extensions.get::<AuthError>().unwrap_or_else(|| panic!("{}: let in", side.name));
            assert_eq!((answer.status.as_u16(), error.public_code()), (401, "invalid_api_key"), "{names:?}");
            assert_eq!(error.kind(), AuthErrorKind::SchemeNotAllowed, "{}", side.name);
        }
    }
    let observed = restricted(&world, r#"{"schemes":{"mode":"observe","allow":[]}}"#).await;
    for (side, answer, _) in sites.ask(&Visit::plain(), Some(observed.expose_secret())).await {
        assert_eq!(answer.json()["observed"], serde_json::json!(["scheme"]), "{}", side.name);
    }
}

#[tokio::test]
async fn a_successor_is_bound_like_the_key_before() {
    let world = World::new().await;
    let sites = Sites::new(&world);
    let keyring = Keyring::new(world.store.clone());
    let bound = Restrictions::none().schemes(SchemeRestriction::allow(["bearer"]).unwrap());
    let new = NewKey::user_level(user("u_own"), "bound").restrictions(bound.clone());
    let old = keyring.issue(new).await.unwrap();
    let next = keyring.rotate(old.id(), Grace::None).await.unwrap();
    assert_eq!(next.record().restrictions, bound);
    for (place, verdict) in let_in(&sites, next.key()).await {
        assert_eq!(
            verdict,
            if place == Place::Bearer { "200:h" } else { "401/invalid_api_key" },
            "{place:?}"
        );
    }
}

#[test]
fn an_invalid_name_of_a_scheme_is_refused_with_the_reason() {
    for name in ["", "bearer token", "\"bearer\"", "schéma"] {
        let text = serde_json::json!({"schemes": {"allow": [name]}}).to_string();
        let error = text.parse::<Restrictions>().expect_err(name);
        assert!(error.reason().contains("such as bearer"), "{error}");
    }
    for text in [
        r#"{"schemes":{"allow":["bearer"],"origin":true}}"#,
        r#"{"schemes":["bearer"]}"#,
        r#"{"schemes":{"allow":["bearer"]},"schemes":{"allow":[]}}"#,
        r#"{"scheme":{"allow":["bearer"]}}"#,
    ] {
        assert!(text.parse::<Restrictions>().is_err(), "{text}");
    }
    let both = r#"{"ip":{"mode":"enforce","allow":[]},"schemes":{"mode":"observe","allow":["a","b"]}}"#;
    assert_eq!(both.parse::<Restrictions>().unwrap().to_string(), both);
}
