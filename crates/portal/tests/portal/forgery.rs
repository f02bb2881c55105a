//! Forms from other sites, API keys as credentials, and the headers of every response.

use axum::body::Body;
use http::{Request, StatusCode};
use tower_api_key::{ApiKeyAuth, scheme::Bearer};
use tower_api_key_portal::stylesheet;

use super::*;

/// Whether the request made a key.
async fn made(site: &Site, request: Request<Body>) -> (bool, StatusCode) {
    let before = site.keys("u_own").await.len();
    let answer = send(&site.app, request).await;
    (site.keys("u_own").await.len() != before, answer.status)
}

#[tokio::test]
async fn c11_13_only_a_form_of_our_own_page_changes_anything() {
    let site = Site::new().await;
    let good = "application/x-www-form-urlencoded";
    let types = [Some(good), Some("text/plain"), Some("multipart/form-data"), Some("application/json"), None];
    let origins = [
        Some("https://app.example.com"),
        Some("https://evil.example"),
        Some("https://app.example.com.evil.example"),
        Some("https://other.app.example.com"),
        Some("https://app.example.com:8443"),
        Some("null"),
        Some("app.example.com"),
        None,
    ];
    let sites = [Some("same-origin"), Some("same-site"), Some("cross-site"), Some("none"), Some(""), None];
    let mut passed = 0;
    // A refused form does not use up its token.
    let mut own = site.form("u_own.1", "/new", &NEW).await;
    let anothers = site.form("u_own.2", "/new", &[]).await;
    let others = site.form("u_own.1", "/new", &[]).await;
    for content_type in types {
        for origin in origins {
            for fetch_site in sites {
                for token in ["own", "another session's", "another form's", "none"] {
                    let mut form = own.clone();
                    match token {
                        "another session's" => form[..3].clone_from_slice(&anothers),
                        "another form's" => form[1] = others[1].clone(),
                        "none" => drop(form.drain(..3)),
                        _ => {}
                    }
                    let mut request = Request::post(format!("{AT}/new"))
                        .header("host", HOST)
                        .header("cookie", "session=u_own.1");
                    for (name, value) in
                        [("content-type", content_type), ("origin", origin), ("sec-fetch-site", fetch_site)]
                    {
                        if let Some(value) = value {
                            request = request.header(name, value);
                        }
                    }
                    let (made, status) = made(&site, request.body(encoded(&form).into()).unwrap()).await;
                    let ours = origin == Some("https://app.example.com");
                    let from_here = (ours || origin.is_none())
                        && (fetch_site == Some("same-origin") || fetch_site.is_none())
                        && (origin.is_some() || fetch_site.is_some());
                    let should = content_type == Some(good) && from_here && token == "own";
                    assert_eq!(made, should, "{content_type:?} {origin:?} {fetch_site:?} {token}: {status}");
                    if should {
                        passed += 1;
                        own = site.form("u_own.1", "/new", &NEW).await;
                    } else {
                        let expected = if from_here && content_type != Some(good) { 415 } else { 403 };
                        assert_eq!(status, expected, "{content_type:?} {origin:?} {fetch_site:?} {token}");
                    }
                }
            }
        }
    }
    assert_eq!(passed, 3);
}

#[tokio::test]
async fn c11_13_a_duplicate_field_or_header_is_refused() {
    let site = Site::new().await;
    for (name, value) in [("origin", "https://app.example.com"), ("sec-fetch-site", "same-origin")] {
        let form = site.form("u_own.1", "/new", &NEW).await;
        let mut request = posted("u_own.1", "/new", &form);
        request.headers_mut().append(name, value.parse().unwrap());
        assert_eq!(made(&site, request).await, (false, StatusCode::FORBIDDEN), "{name}");
    }
}

#[tokio::test]
async fn c11_13_behind_a_proxy_the_public_origin_counts() {
    let world = World::new().await;
    let portal = portal(Keyring::new(world.store.clone()), world.store.clone())
        .public_origin("https://app.example.com")
        .unwrap();
    let app = Router::new().nest(AT, portal.router());
    let site = Site { app, clock: ManualClock::new(Timestamp::from_secs(NOW)), world };
    for (origin, expected) in
        [("https://app.example.com", 201), ("http://app.example.com", 403), ("https://10.0.0.7", 403)]
    {
        let form = site.form("u_own.1", "/new", &NEW).await;
        let mut request = posted("u_own.1", "/new", &form);
        request.headers_mut().insert("host", "10.0.0.7".parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        assert_eq!(send(&site.app, request).await.status, expected, "{origin}");
    }
    for wrong in ["app.example.com", "https://", "https://a/b", "https://a?b", "ftp://a", ""] {
        let keyring = Keyring::new(site.world.store.clone());
        assert!(super::portal(keyring, site.world.store.clone()).public_origin(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn c11_13_nothing_is_changed_by_get_or_by_another_method() {
    let site = Site::new().await;
    let key = site.first("u_own").await;
    let before = site.rows().await;
    let form = encoded(&site.form("u_own.1", "/new", &NEW).await);
    for path in ["/".to_owned(), "/new".to_owned(), key.clone()]
        .into_iter()
        .chain(["rotate", "revoke", "restrictions", "settings"].map(|page| format!("{key}/{page}")))
    {
        for method in ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "get", "post"] {
            let request = Request::builder()
                .method(method)
                .uri(format!("{AT}{}?{form}&_method=POST", path.trim_end_matches('/')))
                .header("host", HOST)
                .header("cookie", "session=u_own.1")
                .header("x-http-method-override", "POST")
                .body(Body::empty())
                .unwrap();
            send(&site.app, request).await;
            assert_eq!(site.rows().await, before, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn c11_14_keys_and_sessions_do_not_replace_each_other() {
    let site = Site::new().await;
    let bearer = test_kit::bearer(&site.world.own);
    let key = [("authorization", &*bearer), ("x-api-key", site.world.own.expose_secret())];
    let page = send(&site.app, test_kit::get(&format!("{AT}/new"), &key)).await;
    assert_eq!(
        (page.status, page.header("location")),
        (StatusCode::SEE_OTHER, vec!["https://sso.example.com/?to=keys"])
    );
    let form = site.form("u_own.1", "/new", &NEW).await;
    let mut request = posted("", "/new", &form);
    for (name, value) in key {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    assert_eq!(made(&site, request).await, (false, StatusCode::UNAUTHORIZED));

    let api = Router::new()
        .route("/", axum::routing::any(test_kit::echo))
        .layer(ApiKeyAuth::new(store(&site), Bearer::default()));
    let answer = send(&api, test_kit::get("/", &[("cookie", "session=u_own.1")])).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn c11_15_every_response_has_the_security_headers() {
    let site = Site::new().await;
    let key = site.first("u_own").await;
    let mut answers = vec![
        ("signed out", site.get("", "/").await),
        ("keys", site.get("u_own.1", "/").await),
        ("new", site.get("u_own.1", "/new").await),
        ("key", site.get("u_own.1", &key).await),
        ("unknown", site.get("u_own.1", "/keys/key_x").await),
        ("foreign", site.get("u_b.1", &key).await),
        ("failed", site.get("down.1", "/").await),
        ("stale", site.get("u_own.1.stale", "/new").await),
        ("made", site.submit("u_own.1", "/new", &NEW).await),
        ("wrong", site.submit("u_own.1", "/new", &[("name", " ")]).await),
        ("forged", site.post("u_own.1", "/new", &[]).await),
        ("signed out form", site.post("", "/new", &[]).await),
        ("revoked", site.submit("u_own.1", &format!("{key}/revoke"), &[]).await),
        ("no method", send(&site.app, test_kit::request("PUT", &format!("{AT}/new"), &[], "")).await),
        ("no asset", site.get("", "/assets/x").await),
    ];
    for (page, answer) in &answers {
        let policy = answer.header("content-security-policy");
        let [policy] = policy.as_slice() else { panic!("{page}: {policy:?}") };
        let (before, after) = policy.split_once("; script-src ").unwrap();
        let (scripts, rest) = after.split_once("; ").unwrap();
        assert_eq!(before, "default-src 'none'", "{page}");
        assert_eq!(
            rest, "style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "{page}"
        );
        assert!(scripts == "'none'" || scripts.starts_with("'nonce-key_"), "{page}: {scripts}");
        let referrer = if *page == "made" { "no-referrer" } else { "same-origin" };
        for (name, value) in [
            ("cache-control", "no-store"),
            ("referrer-policy", referrer),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), [value], "{page}: {name}");
        }
    }
    let nonces: Vec<String> = answers
        .drain(..)
        .filter_map(|(_, answer)| {
            Some(answer.header("content-security-policy")[0].split_once("'nonce-")?.1.to_owned())
        })
        .collect();
    assert!(
        nonces.len() >= 3
            && nonces.iter().all(|one| nonces.iter().filter(|other| *other == one).count() == 1)
    );
}

#[tokio::test]
async fn assets_have_a_hash_in_their_names_and_are_cached() {
    let site = Site::new().await;
    let page = text(&site.get("u_own.1", "/new").await);
    let css = stylesheet();
    assert!(page.contains(&format!("href=\"{AT}{css}\"")));
    let script =
        page.split_once("src=\"").unwrap().1.split_once('"').unwrap().0.strip_prefix(AT).unwrap().to_owned();
    for (path, kind) in [(css, "text/css; charset=utf-8"), (script, "text/javascript; charset=utf-8")] {
        let answer = site.get("", &path).await;
        assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, vec![kind]), "{path}");
        assert_eq!(
            answer.header("cache-control"),
            ["public, max-age=31536000, immutable"],
            "{path:?}, {kind:?}"
        );
    }
}

#[tokio::test]
async fn c11_16_no_page_has_inline_scripts_styles_or_external_resources() {
    let site = Site::new().await;
    let key = site.first("u_own").await;
    let mut pages = vec![text(&site.submit("u_own.1", "/new", &NEW).await)];
    for path in [
        "/",
        "/new",
        &key,
        &format!("{key}/rotate"),
        &format!("{key}/restrictions"),
        &format!("{key}/settings"),
        &format!("{key}/revoke"),
    ] {
        pages.push(text(&site.get("u_own.1", path).await));
    }
    for page in pages {
        for element in html::parse(&page) {
            assert!(!["style", "iframe", "object", "base", "meta-refresh"].contains(&&*element.name));
            for (name, value) in &element.attributes {
                assert!(!name.starts_with("on") && name != "style", "{element:?}");
                let link = ["href", "src", "action"].contains(&&**name);
                assert!(!link || value.starts_with(AT) || value == "#main", "{element:?}");
            }
            if element.name == "script" {
                assert_eq!(element.text, "");
                assert!(element.attributes.contains_key("nonce"));
            }
        }
    }
}
