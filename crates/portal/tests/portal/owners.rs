//! A signed-in user makes and changes their own keys, and no others.

use axum::body::Body;
use http::StatusCode;
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Accounts as _, MemberRole};
use tower_api_key::{ApiKeyAuth, Endpoints};

use super::*;
use tower_api_key::ApiKeys;

const PAGES: [&str; 5] = ["", "/settings", "/rotate", "/restrictions", "/revoke"];

#[tokio::test]
async fn c11_01_the_owner_is_the_signed_in_user_whatever_the_form_contains() {
    let site = Site::new().await;
    let before = site.rows().await;
    for field in [
        "userId",
        "user_id",
        "owner",
        "ownerId",
        "account_id",
        "permissions",
        "scopes",
        "rate_limit",
        "hash",
        "id",
        "created_at",
        "limits",
        "metadata",
    ] {
        let mut fields = NEW.to_vec();
        fields.push((field, "u_b"));
        let answer = site.submit("u_own.1", "/new", &fields).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}");
        // Naming another user in the form has no effect.
        let form = site.form("u_own.1", "/new", &fields).await;
        assert_eq!(site.post("", "/new", &form).await.status, StatusCode::UNAUTHORIZED, "{field}");
    }
    for field in ["name", "level", "ticket"] {
        let mut form = site.form("u_own.1", "/new", &NEW).await;
        form.push((field.to_owned(), "CI".to_owned()));
        assert_eq!(
            site.post("u_own.1", "/new", &form).await.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{field}"
        );
    }
    assert_eq!(site.rows().await, before);
    let made = site.submit("u_own.1", "/new", &NEW).await;
    assert_eq!(site.shown("u_own", &made).await.owner.as_str(), "u_own");
}

#[tokio::test]
async fn c11_04_another_persons_key_is_like_an_unknown_one() {
    let site = Site::new().await;
    let people = ["u_own", "u_full", "u_ro", "u_b"];
    let before = site.rows().await;
    for caller in people {
        let session = format!("{caller}.1");
        let unknown = site.get(&session, "/keys/key_0123456789abcdefghijkl").await;
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        let own = site.first(caller).await;
        for owner in people.into_iter().filter(|owner| *owner != caller) {
            let key = site.first(owner).await;
            for page in PAGES {
                let answer = site.get(&session, &format!("{key}{page}")).await;
                assert_eq!(
                    (answer.status, &answer.body),
                    (unknown.status, &unknown.body),
                    "{caller} {owner} {page}"
                );
                assert_eq!(answer.headers, unknown.headers, "{caller} {owner} {page}");
            }
            for page in &PAGES[1..] {
                // With a token that is valid for one of the user's own keys.
                let form = site.form(&session, &format!("{own}/revoke"), &[]).await;
                let answer = site.post(&session, &format!("{key}{page}"), &form).await;
                assert_eq!(
                    (answer.status, &answer.body),
                    (unknown.status, &unknown.body),
                    "{caller} {owner} {page}"
                );
            }
        }
    }
    assert_eq!(site.rows().await, before);
}

#[tokio::test]
async fn c11_06_an_invalid_id_is_not_looked_up() {
    let site = Site::new().await;
    let long = "k".repeat(10_000);
    for id in ["..%2f..", "%00", "key_1%2f..", "'%20OR%201=1--", "%3Cscript%3E", "%E2%80%AE", "%FF", &long] {
        for page in PAGES {
            let answer = site.get("u_own.1", &format!("/keys/{id}{page}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}{page}");
            assert!(!text(&answer).contains("<script>"), "{id:?}, {page:?}");
        }
    }
}

/// What an API that reads and writes, and the routes that manage keys, answer to a key.
async fn answers(site: &Site, secret: &str) -> [u16; 3] {
    let manage =
        tower_api_key_manage::api_keys(ApiKeys::new(store(site)).clock(site.clock.clone()).keyring());
    let verifier = ApiKeys::new(store(site)).clock(site.clock.clone()).verifier();
    let endpoints = tower_api_key_manage::declare(Endpoints::new(), "/v1/api-keys");
    let auth = ApiKeyAuth::with_verifier(verifier, Bearer::default()).endpoints(endpoints).unwrap();
    let api =
        Router::new().route("/", axum::routing::any(test_kit::echo)).nest("/v1/api-keys", manage).layer(auth);
    let bearer = format!("Bearer {secret}");
    let headers = [("authorization", &*bearer), ("content-type", "application/json")];
    let mut statuses = [0; 3];
    for (n, (method, path)) in [("GET", "/"), ("POST", "/"), ("POST", "/v1/api-keys")].into_iter().enumerate()
    {
        let request = test_kit::request(method, path, &headers, r#"{"name": "By a key"}"#);
        statuses[n] = send(&api, request).await.status.as_u16();
    }
    statuses
}

#[tokio::test]
async fn r24_readonly_members_manage_their_own_keys_which_can_only_read() {
    let site = Site::new().await;
    let list = site.page("u_ro.1", "").await;
    assert!(list.contains("/new\"") && list.contains("Rotate") && list.contains("Revoke"));
    assert!(list.contains("Your access is read-only at the moment"));
    assert!(!site.page("u_full.1", "").await.contains("read-only"));

    let made = site.submit("u_ro.1", "/new", &NEW).await;
    let record = site.shown("u_ro", &made).await;
    let first = html::secret(&text(&made));
    assert_eq!(answers(&site, &first).await, [200, 403, 403]);
    let key = format!("/keys/{}", record.id);
    assert!(site.page("u_ro.1", &key).await.contains("READONLY (only reads)"));
    let renamed =
        site.submit("u_ro.1", &format!("{key}/settings"), &[("name", "Reader"), ("limits", "")]).await;
    assert_eq!(renamed.status, StatusCode::SEE_OTHER);
    let only = [("schemes_mode", "enforce"), ("schemes", "bearer")];
    let narrowed = site.submit("u_ro.1", &format!("{key}/restrictions"), &only).await;
    assert_eq!(narrowed.status, StatusCode::SEE_OTHER);
    let rotated = site.submit("u_ro.1", &format!("{key}/rotate"), &[("grace", "none")]).await;
    let heir = site.shown("u_ro", &rotated).await;
    assert_eq!((&*heir.name, heir.restrictions.is_none()), ("Reader", false));
    let second = html::secret(&text(&rotated));
    assert_eq!(answers(&site, &first).await, [401; 3]);
    assert_eq!(answers(&site, &second).await, [200, 403, 403]);
    let revoked = site.submit("u_ro.1", &format!("/keys/{}/revoke", heir.id), &[]).await;
    assert_eq!(revoked.header("location"), [format!("{AT}/keys/{}", heir.id)]);
    assert_eq!(answers(&site, &second).await, [401; 3]);

    // Only for projects that they have access to, and only for themselves.
    let at = |project: &'static str| {
        let fields = [("name", "CI"), ("level", "PROJECT"), ("project_id", project)];
        fields.into_iter().chain([("environment", "live"), ("expires", "never")]).collect::<Vec<_>>()
    };
    assert_eq!(site.submit("u_ro.1", "/new", &at("p1")).await.status, StatusCode::CREATED);
    assert_eq!(site.submit("u_ro.1", "/new", &at("p2")).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn c17_a1_after_a_demotion_a_form_makes_a_reading_key_and_after_a_removal_none() {
    let site = Site::new().await;
    let person = test_kit::user("u_full");
    let old = site.first("u_full").await;
    let forms = [
        ("/new".to_owned(), NEW.to_vec()),
        (format!("{old}/rotate"), vec![("grace", "none")]),
        (format!("{old}/settings"), vec![("name", "Another")]),
        (format!("{old}/restrictions"), vec![]),
    ];
    let opened = async || {
        let mut opened = Vec::new();
        for (path, fields) in &forms {
            opened.push((path.clone(), site.form("u_full.1", path, fields).await));
        }
        opened
    };
    // The owner was removed while the forms were open: none of them changes anything.
    let late = opened().await;
    store(&site).remove_member("A", &person, Timestamp::from_secs(NOW)).await.unwrap();
    let before = site.rows().await;
    for (path, form) in &late {
        let status = site.post("u_full.1", path, form).await.status;
        assert!([403, 409].contains(&status.as_u16()), "{path}: {status}");
    }
    assert_eq!(site.rows().await, before);

    // The owner was demoted while the forms were open: the new key can only read.
    store(&site).set_member("A", &person, &test_kit::member(MemberRole::Full, &["p1"])).await.unwrap();
    let made = site.submit("u_full.1", "/new", &NEW).await;
    let old = format!("/keys/{}", site.shown("u_full", &made).await.id);
    assert_eq!(answers(&site, &html::secret(&text(&made))).await, [200, 200, 201]);
    let new = site.form("u_full.1", "/new", &NEW).await;
    let rotate = site.form("u_full.1", &format!("{old}/rotate"), &[("grace", "none")]).await;
    store(&site).set_member("A", &person, &test_kit::member(MemberRole::ReadOnly, &["p1"])).await.unwrap();
    for (path, form) in [("/new".to_owned(), new), (format!("{old}/rotate"), rotate)] {
        let made = site.post("u_full.1", &path, &form).await;
        assert_eq!(made.status, StatusCode::CREATED, "{path}");
        assert_eq!(answers(&site, &html::secret(&text(&made))).await, [200, 403, 403], "{path}");
    }
}

#[tokio::test]
async fn c11_02_no_key_is_made_for_a_lost_project_or_account() {
    let site = Site::new().await;
    let at_p2 = [
        ("name", "CI"),
        ("level", "PROJECT"),
        ("project_id", "p2"),
        ("environment", "live"),
        ("expires", "never"),
    ];
    let form = site.form("u_full.1", "/new", &at_p2).await;
    store(&site)
        .set_member("A", &test_kit::user("u_full"), &test_kit::member(MemberRole::Full, &["p1"]))
        .await
        .unwrap();
    let before = site.rows().await;
    assert_eq!(site.post("u_full.1", "/new", &form).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    store(&site).suspend_account("A", true).await.unwrap();
    let key = site.first("u_full").await;
    assert_eq!(site.post("u_full.1", "/new", &form).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.get("u_full.1", &format!("{key}/rotate")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.rows().await, before);
    assert!(site.page("u_full.1", &key).await.contains("your account is not active"));
    // Revoking is always possible (R42).
    assert_eq!(site.submit("u_full.1", &format!("{key}/revoke"), &[]).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn r36_only_projects_that_the_person_can_access_are_offered_and_taken() {
    let site = Site::new().await;
    for (session, offered) in
        [("u_own.1", vec!["p1", "p2", "p3"]), ("u_full.1", vec!["p1", "p2"]), ("u_b.1", vec!["q1"])]
    {
        let page = html::parse(&site.page(session, "/new").await);
        let start =
            page.iter().position(|element| element.attributes.get("id").is_some_and(|id| id == "project_id"));
        let options = page[start.unwrap()..].iter().skip(1).take_while(|element| element.name != "/select");
        let values: Vec<&str> = options
            .filter(|element| element.name == "option")
            .map(|element| &*element.attributes["value"])
            .filter(|value| !value.is_empty())
            .collect();
        assert_eq!(values, offered, "{session}");
        for project in ["p1", "p2", "p3", "q1", "nowhere", "../p1", ""] {
            let fields = [
                ("name", "CI"),
                ("level", "PROJECT"),
                ("project_id", project),
                ("environment", "live"),
                ("expires", "never"),
            ];
            let expected = if offered.contains(&project) { 201 } else { 422 };
            assert_eq!(site.submit(session, "/new", &fields).await.status, expected, "{session} {project}");
        }
    }
}

#[tokio::test]
async fn c11_17_making_rotating_and_changing_ask_for_a_fresh_sign_in() {
    let site = Site::new().await;
    let key = site.first("u_own").await;
    let before = site.rows().await;
    for (path, fields) in [
        ("/new".to_owned(), NEW.to_vec()),
        (format!("{key}/rotate"), vec![("grace", "none")]),
        (format!("{key}/restrictions"), vec![]),
        (format!("{key}/settings"), vec![("name", "Another")]),
    ] {
        let asked = site.get("u_own.1.stale", &path).await;
        assert_eq!(asked.header("location"), ["https://sso.example.com/again"], "{path}");
        // The form was opened in time, and is sent too late.
        let form = site.form("u_own.1", &path, &fields).await;
        let sent = site.post("u_own.1.stale", &path, &form).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{path}");
        assert!(text(&sent).contains("href=\"https://sso.example.com/again\""), "{path}");
    }
    assert_eq!(site.rows().await, before);
    let revoked = site.submit("u_own.1.stale", &format!("{key}/revoke"), &[]).await;
    assert_eq!(revoked.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn an_unreadable_session_is_not_taken_for_a_missing_one() {
    let site = Site::new().await;
    for answer in [site.get("down.1", "/").await, site.post("down.1", "/new", &[]).await] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{answer:?}");
        assert_eq!(answer.header("retry-after").len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn forms_are_read_up_to_a_length() {
    let site = Site::new().await;
    let before = site.rows().await;
    let mut fields = NEW.to_vec();
    let long = "x".repeat(600 * 1024);
    fields.push(("ip", &long));
    assert_eq!(site.submit("u_own.1", "/new", &fields).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut request = posted("u_own.1", "/new", &[]);
    *request.body_mut() = Body::from(&b"name=%FF&\xFF\xFE"[..]);
    assert!(send(&site.app, request).await.status.is_client_error());
    assert_eq!(site.rows().await, before);
}
