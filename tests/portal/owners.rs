//! Whoever is signed in makes and changes their own keys, and no others.

use axum::body::Body;
use http::StatusCode;
use tower_api_key::store::{Accounts as _, MemberRole};

use super::*;

const PAGES: [&str; 5] = ["", "/settings", "/rotate", "/restrictions", "/revoke"];

#[tokio::test]
async fn c11_01_the_owner_is_who_is_signed_in_whatever_the_form_says() {
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
        // Nobody is anybody by naming them.
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
async fn c11_04_another_persons_key_is_as_unknown_as_one_that_is_not_there() {
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
                // With a ticket that is good for one of one's own.
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
async fn c11_06_what_is_no_id_is_not_looked_for() {
    let site = Site::new().await;
    let long = "k".repeat(10_000);
    for id in ["..%2f..", "%00", "key_1%2f..", "'%20OR%201=1--", "%3Cscript%3E", "%E2%80%AE", "%FF", &long] {
        for page in PAGES {
            let answer = site.get("u_own.1", &format!("/keys/{id}{page}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}{page}");
            assert!(!text(&answer).contains("<script>"));
        }
    }
}

#[tokio::test]
async fn r24_who_only_reads_makes_no_keys_and_may_still_revoke() {
    let site = Site::new().await;
    let key = site.first("u_ro").await;
    let before = site.rows().await;
    let pages = ["/rotate", "/restrictions", "/settings"].map(|page| format!("{key}{page}"));
    for path in ["/new".to_owned()].into_iter().chain(pages) {
        assert_eq!(site.get("u_ro.1", &path).await.status, StatusCode::FORBIDDEN, "{path}");
        let form = site.form("u_ro.1", &format!("{key}/revoke"), &NEW).await;
        let form: Vec<_> = match &*path {
            "/new" => form,
            _ => form[..2].iter().cloned().chain([("grace".to_owned(), "none".to_owned())]).collect(),
        };
        let form = if path.ends_with('s') { form[..2].to_vec() } else { form };
        assert_eq!(site.post("u_ro.1", &path, &form).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    assert_eq!(site.rows().await, before);
    let list = text(&site.get("u_ro.1", "").await);
    assert!(!list.contains("/new\"") && !list.contains("Rotate") && list.contains("Revoke"));
    let revoked = site.submit("u_ro.1", &format!("{key}/revoke"), &[]).await;
    assert_eq!(revoked.header("location"), [format!("{AT}{key}")]);
    assert!(site.keys("u_ro").await[0].revoked_at.is_some());
}

#[tokio::test]
async fn c11_02_who_has_lost_a_project_or_the_account_makes_no_key_for_it() {
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
        .set_member("A", &common::user("u_full"), &common::member(MemberRole::Full, &["p1"]))
        .await
        .unwrap();
    let before = site.rows().await;
    assert_eq!(site.post("u_full.1", "/new", &form).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    store(&site).suspend_account("A", true).await.unwrap();
    let key = site.first("u_full").await;
    assert_eq!(site.post("u_full.1", "/new", &form).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.get("u_full.1", &format!("{key}/rotate")).await.status, StatusCode::FORBIDDEN);
    assert_eq!(site.rows().await, before);
    assert!(text(&site.get("u_full.1", &key).await).contains("your account is not active"));
    // Ending one is possible whatever has happened (R42).
    assert_eq!(site.submit("u_full.1", &format!("{key}/revoke"), &[]).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn r36_only_projects_that_the_person_can_access_are_offered_and_taken() {
    let site = Site::new().await;
    for (session, offered) in
        [("u_own.1", vec!["p1", "p2", "p3"]), ("u_full.1", vec!["p1", "p2"]), ("u_b.1", vec!["q1"])]
    {
        let page = html::parse(&text(&site.get(session, "/new").await));
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
        // The form was opened in time, and is sent late.
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
async fn a_session_that_cannot_be_read_is_not_taken_for_none() {
    let site = Site::new().await;
    for answer in [site.get("down.1", "/").await, site.post("down.1", "/new", &[]).await] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("retry-after").len(), 1);
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
