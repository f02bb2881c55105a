//! Usage and audit log on the pages; and the pages when these are missing or the store fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;
use test_kit::{Call, Hook, Hooked};
use tower_api_key::store::UsageLog as _;
use tower_api_key::{Authority, KeyId, Usage};

use super::*;
use tower_api_key::ApiKeys;

/// Fails when told to.
struct Failing(Arc<AtomicBool>);

#[async_trait]
impl Hook for Failing {
    async fn before(&self, _: Call) -> Result<(), StoreError> {
        if self.0.load(Ordering::SeqCst) { Err(StoreError::Overloaded) } else { Ok(()) }
    }
}

/// A site with a registry that keeps no audit log and no usage, and a switch that makes it fail.
async fn plain() -> (Site, Arc<AtomicBool>) {
    let world = World::new().await;
    let clock = ManualClock::new(Timestamp::from_secs(NOW));
    let fails = Arc::new(AtomicBool::new(false));
    let registry = Hooked::new(&world.store, Failing(Arc::clone(&fails)));
    let keyring = ApiKeys::new((registry, world.store.clone())).clock(clock.clone()).keyring();
    let app = Router::new().nest(AT, portal(keyring, world.store.clone()).router());
    (Site { world, clock, app }, fails)
}

async fn used(site: &Site, key: &KeyId, through: &str, at: i64, count: u64) {
    let usage = Usage::new(key.clone(), through.parse().unwrap(), Timestamp::from_secs(at), count);
    store(site).record_usage(&[usage]).await.unwrap();
}

#[tokio::test]
async fn r43_the_last_use_and_its_scheme_are_shown() {
    let site = Site::new().await;
    let made = site.submit("u_own.1", "/new", &NEW).await;
    let id = site.shown("u_own", &made).await.id;
    let key = format!("/keys/{id}");
    assert!(site.page("u_own.1", &key).await.contains("No use is recorded."));
    assert!(site.page("u_own.1", "").await.contains("Not recorded"));
    used(&site, &id, "scheme:bearer", NOW + 60, 12).await;
    used(&site, &id, "scheme:json-body", NOW + 30, 1).await;
    used(&site, &id, "observed:ip", NOW + 90, 3).await;
    let page = site.page("u_own.1", &key).await;
    for said in [
        "<dt>bearer</dt><dd>12 times, last at <time datetime=\"2025-01-01T00:01:00Z\">1 Jan 2025, 00:01</time> UTC",
        "<dt>json-body</dt><dd>Once, last at",
        "Would have been refused",
        "<dt>Addresses</dt><dd>3 times, last at <time datetime=\"2025-01-01T00:01:30Z\">",
    ] {
        assert!(page.contains(said), "{said} in {page}");
    }
    let list = site.page("u_own.1", "").await;
    assert!(list.contains("1 Jan 2025, 00:01</time><small>bearer</small>"), "{list}");
}

#[tokio::test]
async fn after_a_rotation_the_pages_show_the_use_of_the_old_key() {
    let site = Site::new().await;
    let made = site.submit("u_own.1", "/new", &NEW).await;
    let old = site.shown("u_own", &made).await.id;
    used(&site, &old, "scheme:bearer", NOW, 1).await;
    site.clock.advance(Duration::from_secs(60));
    let made = site.submit("u_own.1", &format!("/keys/{old}/rotate"), &[("grace", "30d")]).await;
    let new = site.shown("u_own", &made).await.id;
    let pages = async || {
        let old = site.page("u_own.1", &format!("/keys/{old}")).await;
        [old, site.page("u_own.1", &format!("/keys/{new}")).await]
    };
    for page in pages().await {
        assert!(page.contains("still works until") && !page.contains("still used"), "{page}");
        assert!(page.contains("It is safe to end from <time datetime=\"2025-01-08T00:02:00Z\">"), "{page}");
    }
    used(&site, &old, "scheme:json-body", NOW + 120, 1).await;
    for page in pages().await {
        let said = "1 Jan 2025, 00:02</time> UTC, through json-body.";
        assert!(page.contains("It is still used") && page.contains(said), "{page}");
        assert!(!page.contains("safe to end now"));
    }
    // If nobody records usage, missing usage proves nothing.
    site.pass(8);
    for page in pages().await {
        assert!(!page.contains("safe to end"), "{page}");
    }
    used(&site, &new, "scheme:bearer", NOW + 8 * 24 * 60 * 60, 1).await;
    for page in pages().await {
        assert!(page.contains("It has not been used for a week: <strong>safe to end now</strong>"), "{page}");
    }
    site.submit("u_own.1", &format!("/keys/{old}/revoke"), &[]).await;
    for page in pages().await {
        assert!(!page.contains("still used") && !page.contains("safe to end"), "{page}");
    }
}

/// The predecessor is found through the audit log, and not by reading all keys of its owner, of which there may be
/// many.
#[tokio::test]
async fn c17_b4_the_predecessor_is_found_among_any_number_of_keys() {
    let site = Site::new().await;
    for _ in 0..600 {
        site.world.key("u_own", |key| key.revoked_at = Some(Timestamp::from_secs(2))).await;
    }
    let made = site.submit("u_own.1", "/new", &NEW).await;
    let old = site.shown("u_own", &made).await.id;
    let made = site.submit("u_own.1", &format!("/keys/{old}/rotate"), &[("grace", "30d")]).await;
    let new = site.shown("u_own", &made).await.id;
    let page = site.page("u_own.1", &format!("/keys/{new}")).await;
    assert!(page.contains("It has replaced") && page.contains(old.as_str()), "{page}");
    assert!(page.contains("It is safe to end from"), "{page}");
    let first = site.page("u_own.1", &format!("/keys/{old}")).await;
    assert!(!first.contains("It has replaced") && first.contains("It is safe to end from"), "{first}");
}

#[tokio::test]
async fn r43_the_page_shows_the_audit_log() {
    let site = Site::new().await;
    let made = site.submit("u_own.1", "/new", &NEW).await;
    let id = site.shown("u_own", &made).await.id;
    let key = format!("/keys/{id}");
    site.submit("u_own.1", &format!("{key}/restrictions"), &[("ip_mode", "enforce"), ("ip", "192.0.2.7")])
        .await;
    let made = site.submit("u_own.1", &format!("{key}/rotate"), &[("grace", "none")]).await;
    let heir = site.shown("u_own", &made).await.id;
    let entries = async |id: &KeyId| -> Vec<String> {
        let page = html::parse(&site.page("u_own.1", &format!("/keys/{id}")).await);
        let start = page.iter().position(|element| element.name == "ol").unwrap();
        let end = page.iter().position(|element| element.name == "/ol").unwrap();
        let text: String = page[start..end]
            .iter()
            .map(|element| {
                if element.name == "li" {
                    format!("|{}", element.text)
                } else {
                    format!(" {}", element.text.trim())
                }
            })
            .collect();
        text.split('|').skip(1).map(|entry| entry.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let at = "1 Jan 2025, 00:00";
    assert_eq!(
        entries(&id).await,
        [
            format!("{at} Ended by the rotation by you"),
            format!("{at} Rotated: replaced by {heir} by you"),
            format!("{at} Changed: restrictions by you"),
            format!("{at} Created by you"),
        ]
    );
    let keyring = ApiKeys::new(store(&site)).clock(site.clock.clone()).keyring();
    keyring.acting_as(Authority::Operator).revoke(&heir).await.unwrap();
    assert_eq!(
        entries(&heir).await,
        [format!("{at} Revoked by an operator"), format!("{at} Created to replace {id} by you")]
    );
}

#[tokio::test]
async fn data_that_the_registry_does_not_keep_is_not_shown() {
    let (site, _) = plain().await;
    let key = site.first("u_own").await;
    let list = site.page("u_own.1", "").await;
    assert!(!list.contains("Last used") && !list.contains("Not recorded"));
    let page = site.page("u_own.1", &key).await;
    assert!(!page.contains("id=\"use\"") && !page.contains("id=\"history\""));
}

#[tokio::test]
async fn c10_a_failing_store_is_a_503_and_changes_nothing() {
    let (site, fails) = plain().await;
    let key = site.first("u_own").await;
    let before = site.rows().await;
    let mut forms = Vec::new();
    for (path, fields) in [
        ("/new".to_owned(), NEW.to_vec()),
        (format!("{key}/rotate"), vec![("grace", "none")]),
        (format!("{key}/restrictions"), vec![]),
        (format!("{key}/settings"), vec![("name", "Another")]),
        (format!("{key}/revoke"), vec![]),
    ] {
        forms.push((path.clone(), site.form("u_own.1", &path, &fields).await));
    }
    fails.store(true, Ordering::SeqCst);
    for path in ["", &key, &format!("{key}/rotate"), &format!("{key}/revoke")] {
        let answer = site.get("u_own.1", path).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(answer.header("retry-after").len(), 1, "{path}");
    }
    for (path, form) in &forms {
        assert_eq!(site.post("u_own.1", path, form).await.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
    }
    fails.store(false, Ordering::SeqCst);
    assert_eq!(site.rows().await, before);
}
