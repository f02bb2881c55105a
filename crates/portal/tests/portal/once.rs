//! A secret is shown exactly once.

use std::num::NonZero;

use http::StatusCode;

use tower_api_key::delivery::{Delivery, KeyDelivery, Notice};
use tower_api_key::scheme::Bearer;
use tower_api_key::{ApiKey, ApiKeyAuth, KeyPolicy};

use super::*;
use tower_api_key::ApiKeys;

async fn works(site: &Site, key: &str) -> StatusCode {
    let verifier = ApiKeys::new(store(site)).clock(site.clock.clone()).verifier();
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default());
    let api = Router::new().route("/", axum::routing::any(test_kit::echo)).layer(auth);
    send(&api, test_kit::get("/", &[("authorization", &format!("Bearer {key}"))])).await.status
}

#[tokio::test]
async fn c11_12_a_secret_is_in_one_response_only() {
    let site = Site::new().await;
    let form = site.form("u_own.1", "/new", &NEW).await;
    let shown = site.post("u_own.1", "/new", &form).await;
    assert_eq!(shown.status, StatusCode::CREATED);
    assert!(shown.header("location").is_empty());
    let secret = html::secret(&text(&shown));
    assert_eq!(works(&site, &secret).await, StatusCode::OK);
    for (name, value) in &shown.headers {
        assert!(!value.to_str().unwrap().contains(&secret), "{name}");
    }

    // If the form is sent again, as by a reload, no second key is made, and the response shows no secret.
    let before = site.rows().await;
    let again = site.post("u_own.1", "/new", &form).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(site.rows().await, before);

    // No other page contains a part of the secret, except the last four characters, which belong to the checksum.
    let record = site.shown("u_own", &shown).await;
    let mut pages = vec![text(&again)];
    let key = format!("/keys/{}", record.id);
    for path in [
        "",
        "/?state=all",
        "/new",
        &key,
        &format!("{key}/rotate"),
        &format!("{key}/restrictions"),
        &format!("{key}/settings"),
        &format!("{key}/revoke"),
    ] {
        let path = path.replacen("/?", "?", 1);
        let page = site.get("u_own.1", &path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}");
        pages.push(text(&page));
    }
    let digest = format!("{:?}", record.digest);
    for page in &pages {
        for start in 0..secret.len() - 8 {
            let part = &secret[start..start + 8];
            assert!(part == "sk_live_" || !page.contains(part), "{part} in {page}");
        }
        assert!(!page.contains(&digest));
    }
}

#[tokio::test]
async fn c11_12_a_form_sent_many_times_at_once_makes_one_key() {
    let site = Site::new().await;
    let before = site.keys("u_own").await.len();
    let form = site.form("u_own.1", "/new", &NEW).await;
    let sent = (0..20).map(|_| {
        let (app, request) = (site.app.clone(), posted("u_own.1", "/new", &form));
        tokio::spawn(async move { send(&app, request).await.status })
    });
    let mut answers = Vec::new();
    for answer in sent.collect::<Vec<_>>() {
        answers.push(answer.await.unwrap());
    }
    answers.sort();
    assert_eq!(answers[0], StatusCode::CREATED);
    assert!(answers[1..].iter().all(|status| *status == StatusCode::CONFLICT), "{answers:?}");
    assert_eq!(site.keys("u_own").await.len(), before + 1);
}

#[tokio::test]
async fn c11_12_an_old_form_is_shown_again_with_what_was_typed() {
    let site = Site::new().await;
    let before = site.rows().await;
    let form = site.form("u_own.1", "/new", &NEW).await;
    site.clock.advance(Duration::from_secs(60 * 60 + 1));
    let late = site.post("u_own.1", "/new", &form).await;
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert_eq!(site.rows().await, before);
    let page = html::parse(&text(&late));
    assert_eq!(html::find(&page, "name").attributes["value"], "CI");
    // The form can be sent now.
    let mut form = html::sealed(&text(&late));
    form.extend(NEW.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(site.post("u_own.1", "/new", &form).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn r31_a_rotated_key_ends_at_once_or_after_the_grace_that_was_chosen() {
    let site = Site::new().await;
    for (grace, hours) in [("none", 0), ("1h", 1), ("1d", 24), ("7d", 7 * 24), ("30d", 30 * 24)] {
        let page = site.submit("u_own.1", "/new", &NEW).await;
        let first = html::secret(&text(&page));
        let old = site.shown("u_own", &page).await;
        let path = format!("/keys/{}/rotate", old.id);
        let form = site.form("u_own.1", &path, &[("grace", grace)]).await;
        let shown = site.post("u_own.1", &path, &form).await;
        assert_eq!(shown.status, StatusCode::CREATED, "{}", text(&shown));
        let second = html::secret(&text(&shown));
        assert_eq!(works(&site, &second).await, StatusCode::OK, "grace: {grace:?}, {hours:?}");
        // A second rotation is too late, both with the old form and with a new one.
        assert_eq!(
            site.post("u_own.1", &path, &form).await.status,
            StatusCode::CONFLICT,
            "grace: {grace:?}, {hours:?}"
        );
        assert_eq!(
            site.get("u_own.1", &path).await.status,
            StatusCode::CONFLICT,
            "grace: {grace:?}, {hours:?}"
        );

        let page = site.page("u_own.1", &format!("/keys/{}", old.id)).await;
        if hours > 0 {
            assert_eq!(works(&site, &first).await, StatusCode::OK, "{grace}");
            assert!(page.contains("This one still works until"), "grace: {grace:?}, {hours:?}");
            // The page does not promise a grace period that is longer than the key's own expiry.
            assert_eq!(page.contains("It is safe to end from"), hours > 7 * 24, "{grace}");
            let heir = site.shown("u_own", &shown).await;
            let heir = site.page("u_own.1", &format!("/keys/{}", heir.id)).await;
            assert!(heir.contains("which still works until"), "grace: {grace:?}, {hours:?}");
            site.clock.advance(Duration::from_secs(hours * 60 * 60 - 1));
            assert_eq!(works(&site, &first).await, StatusCode::OK, "{grace}");
            site.clock.advance(Duration::from_secs(1));
        }
        assert_eq!(works(&site, &first).await, StatusCode::UNAUTHORIZED, "{grace}");
        assert!(
            site.page("u_own.1", &format!("/keys/{}", old.id)).await.contains("Replaced"),
            "grace: {grace:?}, {hours:?}"
        );
    }
    let key = site.first("u_own").await;
    let odd = site.submit("u_own.1", &format!("{key}/rotate"), &[("grace", "99y")]).await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn r37_the_command_lines_are_those_of_the_schemes_that_the_api_reads() {
    let site = Site::new().await;
    let page = text(&site.submit("u_own.1", "/new", &NEW).await);
    let secret = html::secret(&page);
    let elements = html::parse(&page);
    let lines: Vec<&str> =
        elements.iter().filter(|element| element.name == "pre").map(|element| &*element.text).collect();
    assert_eq!(
        lines,
        [
            format!(
                "curl https://api.example.com/v1/users/usr_123 \\\n  -H 'Authorization: Bearer {secret}'"
            ),
            format!(
                "curl -X POST 'https://api.example.com/status?a=1&b=it'\\''s' \\\n  \
                 -H 'Content-Type: application/json' \\\n  \
                 -d '{{\"apiKey\": \"{secret}\", \"userId\": \"u_own\", \"projectId\": \"YOUR_PROJECT_ID\"}}'"
            ),
        ]
    );
    assert!(page.contains("This is the only time that it is shown."));
}

#[tokio::test]
async fn r28_the_page_says_whether_the_owner_was_told_and_shows_the_key_all_the_same() {
    struct Told(Delivery);

    #[async_trait]
    impl KeyDelivery for Told {
        async fn deliver(&self, _: &ApiKey, notice: &Notice<'_>) -> Delivery {
            self.notify(notice).await
        }

        async fn notify(&self, _: &Notice<'_>) -> Delivery {
            self.0
        }
    }

    for (delivery, said) in [
        (Delivery::None, None),
        (Delivery::Queued, Some("A message that there is a new key is being sent to you, too.")),
        (Delivery::Done, Some("You were also sent a message that there is a new key.")),
        (Delivery::Failed, Some("could not be sent. The key works all the same.")),
    ] {
        let site = Site::with(|keyring| keyring.deliver(Told(delivery))).await;
        let made = site.submit("u_own.1", "/new", &NEW).await;
        let old = site.shown("u_own", &made).await;
        let rotated = site.submit("u_own.1", &format!("/keys/{}/rotate", old.id), &[("grace", "none")]).await;
        for page in [&text(&made), &text(&rotated)] {
            assert_eq!(page.contains("message that there is a new key"), said.is_some(), "{delivery:?}");
            assert!(said.is_none_or(|said| page.contains(said)), "{delivery:?}");
        }
        assert_eq!(
            works(&site, &html::secret(&text(&rotated))).await,
            StatusCode::OK,
            "{delivery:?}, {said:?}"
        );
    }
}

#[tokio::test]
async fn c11_09_too_many_keys_are_refused_and_what_was_typed_stays() {
    let site =
        Site::with(|keyring| keyring.policy(KeyPolicy::Multiple { max: NonZero::new(1).unwrap() })).await;
    let before = site.rows().await;
    let answer = site.submit("u_own.1", "/new", &NEW).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(text(&answer).contains("Revoke one first"));
    assert_eq!(html::find(&html::parse(&text(&answer)), "name").attributes["value"], "CI");
    assert_eq!(site.rows().await, before);
}

#[tokio::test]
async fn c17_b7_a_form_that_made_nothing_can_be_sent_again() {
    let site =
        Site::with(|keyring| keyring.policy(KeyPolicy::Multiple { max: NonZero::new(1).unwrap() })).await;
    let key = site.first("u_b").await;
    let form = site.form("u_b.1", "/new", &NEW).await;
    for _ in 0..3 {
        let refused = site.post("u_b.1", "/new", &form).await;
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(text(&refused).contains("Revoke one first"), "{}", text(&refused));
    }
    site.submit("u_b.1", &format!("{key}/revoke"), &[]).await;
    let made = site.post("u_b.1", "/new", &form).await;
    site.shown("u_b", &made).await;
    // But only once.
    let again = text(&site.post("u_b.1", "/new", &form).await);
    assert!(again.contains("This form was already sent"), "{again}");
}

#[tokio::test]
async fn r30_where_issuing_ends_the_key_before_the_form_says_so() {
    for grace in [true, false] {
        let site = Site::with(|keyring| keyring.policy(KeyPolicy::Single { grace })).await;
        assert!(
            site.page("u_b.1", "/new").await.contains("making another ends the one before at once"),
            "grace: {grace:?}"
        );
    }
    let site = Site::with(|keyring| keyring.policy(KeyPolicy::Single { grace: false })).await;
    assert_eq!(site.submit("u_b.1", "/new", &NEW).await.status, StatusCode::CREATED);
    let active = |key: &KeyRecord| key.is_active(Timestamp::from_secs(NOW));
    assert_eq!(site.keys("u_b").await.iter().filter(|key| active(key)).count(), 1);
}

#[tokio::test]
async fn c13_01_debug_shows_no_secret() {
    let world = World::new().await;
    let user = PortalUser::new(test_kit::user("alice"), "Alice", &[0xAB; 32]);
    let shown = format!(
        "{:?} {user:?} {:?}",
        portal(Keyring::new(world.store.clone()), world.store.clone()),
        SignedIn::User(PortalUser::new(test_kit::user("alice"), "Alice", &[0xAB; 32]))
    );
    assert!(!shown.contains("171") && !shown.to_lowercase().contains("abab"), "{shown}");
}
