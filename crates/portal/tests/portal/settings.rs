//! The owner of a key can change its name and its limits.

use std::num::NonZero;

use http::StatusCode;
use tower_api_key::Authority;
use tower_api_key::store::Terms;

use super::*;

/// The newest entry of a key's audit log.
async fn last_event(site: &Site, key: &KeyRecord) -> String {
    let history = Keyring::new(store(site)).history(&key.id, 1).await.unwrap();
    format!("{} by {}", history[0].event, history[0].by)
}

async fn made(site: &Site) -> (KeyRecord, String) {
    let page = site.submit("u_own.1", "/new", &NEW).await;
    let key = site.shown("u_own", &page).await;
    let path = format!("/keys/{}/settings", key.id);
    (key, path)
}

async fn now(site: &Site, key: &KeyRecord) -> KeyRecord {
    Keyring::new(store(site)).get(&key.id).await.unwrap().unwrap()
}

#[tokio::test]
async fn r34_a_key_gets_another_name_and_other_limits_and_only_what_changes_is_written_down() {
    let site = Site::new().await;
    let (key, path) = made(&site).await;
    let page = site.page("u_own.1", &format!("/keys/{}", key.id)).await;
    assert!(page.contains(&format!("href=\"{AT}{path}\"")), "the page of the key leads there");
    for (name, limits, event) in [
        ("  Build server ", "", "amended:name by user:u_own"),
        ("Build server", " 12/min,burst=2/s ", "amended:limits by user:u_own"),
        ("Deploys", "200/30d", "amended:name,limits by user:u_own"),
        ("Deploys", "200/30d", "amended:name,limits by user:u_own"),
        ("Deploys", "", "amended:limits by user:u_own"),
    ] {
        let before = now(&site, &key).await;
        let form = html::parse(&site.page("u_own.1", &path).await);
        assert_eq!(
            html::find(&form, "name").attributes["value"],
            before.name,
            "{name:?}, {limits:?}, {event:?}"
        );
        let shown = before.limits.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(html::find(&form, "limits").attributes["value"], shown, "{name:?}, {limits:?}, {event:?}");
        let saved = site.submit("u_own.1", &path, &[("name", name), ("limits", limits)]).await;
        assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", text(&saved));
        assert_eq!(
            saved.header("location"),
            [format!("{AT}/keys/{}", key.id)],
            "{name:?}, {limits:?}, {event:?}"
        );
        let after = now(&site, &key).await;
        assert_eq!(after.name, name.trim(), "{name:?}, {limits:?}, {event:?}");
        assert_eq!(
            after.limits,
            (!limits.is_empty()).then(|| limits.trim().parse().unwrap()),
            "{name:?}, {limits:?}, {event:?}"
        );
        assert_eq!(last_event(&site, &key).await, event, "{name:?}, {limits:?}, {event:?}");
        let mut expected = key.clone();
        (expected.name, expected.limits) = (after.name.clone(), after.limits.clone());
        assert_eq!(format!("{after:?}"), format!("{expected:?}"), "nothing else has changed");
    }
    // Sending unchanged values adds no second entry.
    assert_eq!(Keyring::new(store(&site)).history(&key.id, 99).await.unwrap().len(), 5);
}

#[tokio::test]
async fn c11_08_an_invalid_value_changes_nothing_and_has_an_error_at_its_field() {
    let site = Site::new().await;
    let (key, path) = made(&site).await;
    let before = site.rows().await;
    for (name, limits, field) in [
        ("", "", "name"),
        ("a\u{202E}b", "", "name"),
        (&*"x".repeat(65), "12/min", "name"),
        ("CI", "often", "limits"),
        ("CI", "0/min", "limits"),
        ("CI", "12/min,12/min", "limits"),
        ("Good", "<script>", "limits"),
    ] {
        let answer = site.submit("u_own.1", &path, &[("name", name), ("limits", limits)]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{name} {limits}");
        let page = html::parse(&text(&answer));
        assert_eq!(html::find(&page, field).attributes["aria-invalid"], "true", "{name} {limits}");
        assert!(
            !html::find(&page, &format!("{field}-error")).text.is_empty(),
            "{name:?}, {limits:?}, {field:?}"
        );
        // The form still has everything that was typed.
        assert_eq!(html::find(&page, "name").attributes["value"], name, "{name:?}, {limits:?}, {field:?}");
        assert_eq!(
            html::find(&page, "limits").attributes["value"],
            limits,
            "{name:?}, {limits:?}, {field:?}"
        );
    }
    for field in ["scopes", "owner", "expires_at", "level", "restrictions"] {
        let answer = site.submit("u_own.1", &path, &[("name", "Another"), (field, "x")]).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
    }
    assert_eq!(site.rows().await, before);
    let now = now(&site, &key).await;
    assert_eq!((&*now.name, now.limits, now.restrictions.is_none()), ("CI", None, true));
    assert_eq!(last_event(&site, &key).await, "issued by user:u_own");
}

#[tokio::test]
async fn an_ended_key_cannot_be_renamed_and_one_in_a_grace_can() {
    let site = Site::new().await;
    let (old, path) = made(&site).await;
    let form = site.form("u_own.1", &path, &[("name", "Another")]).await;
    let rotated = site.submit("u_own.1", &format!("/keys/{}/rotate", old.id), &[("grace", "1d")]).await;
    let heir = site.shown("u_own", &rotated).await;
    assert_eq!(site.submit("u_own.1", &path, &[("name", "The old one")]).await.status, StatusCode::SEE_OTHER);
    assert_eq!(
        (now(&site, &old).await.name, now(&site, &heir).await.name),
        ("The old one".into(), "CI".into())
    );
    Keyring::new(store(&site)).acting_as(Authority::Operator).revoke(&old.id).await.unwrap();
    assert_eq!(site.get("u_own.1", &path).await.status, StatusCode::CONFLICT);
    assert_eq!(site.post("u_own.1", &path, &form).await.status, StatusCode::CONFLICT);
    assert!(!site.page("u_own.1", &format!("/keys/{}", old.id)).await.contains("/settings"));
    assert_eq!(now(&site, &old).await.name, "The old one");
}

#[tokio::test]
async fn a_key_without_a_name_need_not_get_one() {
    let site = Site::new().await;
    let (first, path) = made(&site).await;
    let mut key = first.clone();
    let id = tower_api_key::KeyId::new("nameless").unwrap();
    (key.id, key.family) = (id.clone(), id.clone());
    (key.digest, key.name) = (tower_api_key::KeyDigest::of("nameless"), String::new());
    use tower_api_key::KeyPolicy;
    use tower_api_key::store::KeyRegistry as _;
    store(&site)
        .insert(
            key.clone(),
            &Terms::by(Authority::System).policy(KeyPolicy::Multiple { max: NonZero::new(99).unwrap() }),
        )
        .await
        .unwrap();
    let path = path.replace(path.split('/').nth(2).unwrap(), "nameless");
    let saved = site.submit("u_own.1", &path, &[("name", ""), ("limits", "12/min")]).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", text(&saved));
    assert_eq!(last_event(&site, &key).await, "amended:limits by user:u_own");
    let mut expected = key.clone();
    expected.limits = Some("12/min".parse().unwrap());
    assert_eq!(
        format!("{:?}", now(&site, &key).await),
        format!("{expected:?}"),
        "the limits, and nothing else"
    );
    assert_eq!(format!("{:?}", now(&site, &first).await), format!("{first:?}"), "nor another key");
}

#[tokio::test]
async fn c17_e3_an_old_tab_does_not_undo_later_changes() {
    let site = Site::new().await;
    let (key, settings) = made(&site).await;
    let restrictions = format!("/keys/{}/restrictions", key.id);
    let page = format!("/keys/{}", key.id);
    for (path, stale, narrower, after) in [
        (
            &settings,
            [("name", "CI"), ("limits", "")],
            [("name", "CI"), ("limits", "7/min")],
            "name=\"limits\" value=\"7/min\"",
        ),
        (
            &restrictions,
            [("ip_mode", "off"), ("ip", "")],
            [("ip_mode", "enforce"), ("ip", "192.0.2.0/24")],
            "\n192.0.2.0/24</textarea>",
        ),
    ] {
        let old = site.form("u_own.1", path, &stale).await;
        assert_eq!(site.submit("u_own.1", path, &narrower).await.status, StatusCode::SEE_OTHER, "{path}");
        let narrowed = site.rows().await;
        let refused = site.post("u_own.1", path, &old).await;
        assert_eq!(refused.status, StatusCode::CONFLICT, "{path}");
        assert_eq!(site.rows().await, narrowed, "{path}");
        // The form shows the current values, and can be sent.
        let shown = text(&refused);
        assert!(shown.contains("this was changed elsewhere") && shown.contains(after), "{path}: {shown}");
        let mut again = html::sealed(&shown);
        again.extend(stale.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let saved = site.post("u_own.1", path, &again).await;
        assert_eq!(
            (saved.status, saved.header("location")),
            (StatusCode::SEE_OTHER, vec![&*format!("{AT}{page}")]),
            "{path:?}, {stale:?}, {narrower:?}"
        );
        assert_ne!(site.rows().await, narrowed, "{path}");
        // A form without the digest of what it showed is refused, too.
        let mut without = site.form("u_own.1", path, &narrower).await;
        without.retain(|(name, _)| name != "seen");
        assert_eq!(site.post("u_own.1", path, &without).await.status, StatusCode::CONFLICT, "{path}");
    }
    // A change by the other form does not matter: each form checks only its own fields.
    let old = site.form("u_own.1", &settings, &[("name", "Renamed"), ("limits", "")]).await;
    site.submit("u_own.1", &restrictions, &[("ip_mode", "enforce"), ("ip", "192.0.2.9")]).await;
    assert_eq!(site.post("u_own.1", &settings, &old).await.status, StatusCode::SEE_OTHER);
    let now = now(&site, &key).await;
    assert_eq!((&*now.name, now.restrictions.get_ip().unwrap().rules().len()), ("Renamed", 1));
}
