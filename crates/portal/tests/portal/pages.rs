//! The texts of the pages, and the fields that they keep.

use http::StatusCode;
use tower_api_key::restriction::{IpRestriction, Restrictions};

use super::*;

/// What a browser would send for the form on a page, without hidden fields.
pub(crate) fn filled(page: &str) -> Vec<(String, String)> {
    let elements = html::parse(page);
    let mut fields = Vec::new();
    let mut select = None;
    for element in &elements {
        let attribute = |name: &str| element.attributes.get(name).cloned();
        let name = attribute("name");
        match (&*element.name, name) {
            ("input", Some(name)) => match attribute("type").as_deref() {
                Some("hidden") => {}
                Some("radio" | "checkbox") if attribute("checked").is_none() => {}
                _ => fields.push((name, attribute("value").unwrap_or_default())),
            },
            ("textarea", Some(name)) => {
                fields.push((name, element.text.strip_prefix('\n').unwrap_or(&element.text).to_owned()));
            }
            ("select", Some(name)) => select = Some(name),
            ("option", None) if attribute("selected").is_some() => {
                fields.push((select.clone().unwrap(), attribute("value").unwrap()));
            }
            _ => {}
        }
    }
    fields
}

#[tokio::test]
async fn typed_values_stay_and_each_wrong_field_has_an_error() {
    let site = Site::new().await;
    let before = site.rows().await;
    let typed = [
        ("name", "  <b>bidi\u{202E}</b> "),
        ("level", "PROJECT"),
        ("environment", "test"),
        ("expires", "on"),
        ("expires_on", "2024-12-31"),
        ("ip_mode", "enforce"),
        ("ip", "192.0.2.0/24\r\n192.0.2.7/24"),
        ("referrer_mode", "observe"),
        ("referrer", "javascript:alert(1)"),
        ("referrer_origin", "yes"),
        ("endpoints_mode", "off"),
        ("endpoints", "GET /v1/{id}"),
    ];
    let answer = site.submit("u_own.1", "/new", &typed).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.rows().await, before);
    let page = text(&answer);
    let kept = filled(&page);
    for (name, value) in typed {
        let value = value.replace("\r\n", "\n");
        assert!(
            kept.iter().any(|(field, kept)| field == name && kept.replace("\r\n", "\n") == value),
            "{name}: {kept:?}"
        );
    }
    let elements = html::parse(&page);
    for (field, id) in [
        ("name", "name"),
        ("project_id", "project"),
        ("expires_on", "expires"),
        ("ip", "ip"),
        ("referrer", "referrer"),
        ("endpoints", "endpoints"),
    ] {
        let field = html::find(&elements, field);
        assert_eq!(field.attributes["aria-invalid"], "true", "{field:?}");
        let error = format!("{id}-error");
        assert!(field.attributes["aria-describedby"].split(' ').any(|other| other == error), "{field:?}");
        assert!(html::find(&elements, &error).text.len() > 10, "{id}");
    }
    assert!(
        elements.iter().any(|element| element.name == "details" && element.attributes.contains_key("open"))
    );
}

#[tokio::test]
async fn a_restriction_with_an_error_is_shown_open() {
    let site = Site::new().await;
    for list in ["ip", "referrer", "endpoints", "schemes"] {
        let mode = format!("{list}_mode");
        let typed = [
            ("name", "CI"),
            ("level", "USER"),
            ("environment", "live"),
            ("expires", "never"),
            (&mode, "enforce"),
        ];
        let answer = site.submit("u_own.1", "/new", &typed).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{list:?}");
        let elements = html::parse(&text(&answer));
        let folded = elements.iter().find(|element| element.name == "details").unwrap();
        assert!(folded.attributes.contains_key("open"), "{list}");
    }
}

#[tokio::test]
async fn r35_a_project_beside_user_level_is_an_error_and_is_seen() {
    let site = Site::new().await;
    let fields = [
        ("name", "CI"),
        ("level", "USER"),
        ("project_id", "p1"),
        ("environment", "live"),
        ("expires", "never"),
    ];
    let answer = site.submit("u_own.1", "/new", &fields).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(html::find(&html::parse(&text(&answer)), "project-error").text.contains("user-level key"));
    assert!(text(&answer).contains("only-project show"));
}

#[tokio::test]
async fn every_choice_of_expiry_is_what_it_says() {
    let site = Site::new().await;
    let day = 24 * 60 * 60;
    for (expires, on, end) in [
        ("never", "", None),
        ("30", "", Some(NOW + 30 * day)),
        ("90", "", Some(NOW + 90 * day)),
        ("365", "", Some(NOW + 365 * day)),
        // The expiry is the end of the day, also for today.
        ("on", "2025-01-01", Some(NOW + day)),
        ("on", "2025-01-31", Some(NOW + 31 * day)),
    ] {
        let fields = [
            ("name", "CI"),
            ("level", "USER"),
            ("environment", "live"),
            ("expires", expires),
            ("expires_on", on),
        ];
        let made = site.submit("u_own.1", "/new", &fields).await;
        let made = site.shown("u_own", &made).await;
        assert_eq!(made.expires_at, end.map(Timestamp::from_secs), "{expires} {on}");
    }
    for (expires, on) in [("on", ""), ("on", "2024-12-31"), ("on", "31.12.2030"), ("", ""), ("7", "")] {
        let fields = [
            ("name", "CI"),
            ("level", "USER"),
            ("environment", "live"),
            ("expires", expires),
            ("expires_on", on),
        ];
        assert_eq!(site.submit("u_own.1", "/new", &fields).await.status, 422, "{expires} {on}");
    }
}

#[tokio::test]
async fn r56_restrictions_are_written_shown_and_changed() {
    let site = Site::new().await;
    let mut fields = NEW.to_vec();
    fields.extend([
        ("ip_mode", "enforce"),
        ("ip", " 192.0.2.0/24 \r\n\r\n2001:db8::/32\r\n"),
        ("referrer_mode", "observe"),
        ("referrer", "https://*.good.example/app"),
        ("referrer_origin", "yes"),
        ("endpoints_mode", "observe"),
        ("endpoints", "GET /v1/users/{id}"),
        ("schemes_mode", "enforce"),
        ("schemes", "bearer"),
    ]);
    let made = site.submit("u_own.1", "/new", &fields).await;
    let made = site.shown("u_own", &made).await;
    let expected: Restrictions = r#"{"ip":{"allow":["192.0.2.0/24","2001:db8::/32"]},
        "referrer":{"mode":"observe","allow":["https://*.good.example/app"],"origin":true},
        "endpoints":{"mode":"observe","allow":["GET /v1/users/{id}"]},"schemes":{"allow":["bearer"]}}"#
        .parse()
        .unwrap();
    assert_eq!(made.restrictions, expected);

    let key = format!("/keys/{}", made.id);
    let page = site.page("u_own.1", &key).await;
    for entry in ["192.0.2.0/24", "https://*.good.example/app", "GET /v1/users/{id}", "Observed only"] {
        assert!(page.contains(entry), "{entry}");
    }

    let restrictions = async || {
        let keys = site.keys("u_own").await;
        keys.into_iter().find(|key| key.id == made.id).unwrap().restrictions
    };
    // If the form is sent unchanged, it changes nothing.
    let path = format!("{key}/restrictions");
    let as_it_is = |page: &str| [html::sealed(page), filled(page)].concat();
    let form = as_it_is(&site.page("u_own.1", &path).await);
    let saved = site.post("u_own.1", &path, &form).await;
    assert_eq!(
        (saved.status, saved.header("location")),
        (StatusCode::SEE_OTHER, vec![&*format!("{AT}{key}")])
    );
    assert_eq!(restrictions().await, expected);

    let opened = site.submit("u_own.1", &path, &[("ip_mode", "off"), ("ip", "")]).await;
    assert_eq!(opened.status, StatusCode::SEE_OTHER);
    assert!(restrictions().await.is_none());
}

#[tokio::test]
async fn an_empty_restriction_is_not_removed_by_saving_the_form() {
    let site = Site::new().await;
    let key = site.first("u_b").await;
    let nobody = Restrictions::none().ip(IpRestriction::allow::<&str>([]).unwrap());
    let id = site.keys("u_b").await[0].id.clone();
    Keyring::new(store(&site)).restrict(&id, &nobody).await.unwrap();
    let path = format!("{key}/restrictions");
    let page = site.page("u_b.1", &path).await;
    let form = [html::sealed(&page), filled(&page)].concat();
    assert_eq!(site.post("u_b.1", &path, &form).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(site.keys("u_b").await[0].restrictions, nobody);
    assert!(site.page("u_b.1", &key).await.contains("nobody may use it"));
}

#[tokio::test]
async fn c11_11_a_name_is_text_on_every_page() {
    let plain = Site::new().await;
    let odd = Site::new().await;
    for name in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' autofocus onfocus=alert(1) x='",
        "</textarea></title><svg onload=alert(1)>",
        "{{7*7}}{% raw %}",
        "=HYPERLINK(\"https://evil.example\")",
        "&lt;b&gt;&amp;",
        "-->",
    ] {
        let mut shapes = Vec::new();
        for (site, name) in [(&plain, "plain"), (&odd, name)] {
            let fields = [("name", name), ("level", "USER"), ("environment", "live"), ("expires", "never")];
            let shown = site.submit("u_b.1", "/new", &fields).await;
            let made = site.shown("u_b", &shown).await;
            let mut pages = vec![text(&shown)];
            assert_eq!(made.name, name, "{name:?}");
            for page in ["", "/settings", "/rotate", "/restrictions", "/revoke"] {
                pages.push(site.page("u_b.1", &format!("/keys/{}{page}", made.id)).await);
            }
            pages.push(site.page("u_b.1", "").await);
            // Also as the value of a field.
            let wrong = [("name", name), ("level", "USER"), ("environment", "live"), ("expires", "")];
            pages.push(text(&site.submit("u_b.1", "/new", &wrong).await));
            for page in &pages {
                let words: String = html::parse(page)
                    .iter()
                    .flat_map(|element| element.attributes.values().chain([&element.text]))
                    .cloned()
                    .collect();
                assert!(words.contains(name), "{name}: {page}");
            }
            shapes.push(pages.iter().map(|page| html::structure(page)).collect::<Vec<_>>());
        }
        assert_eq!(shapes[0], shapes[1], "{name}");
    }
}

#[tokio::test]
async fn r41_old_keys_are_called_so_from_their_90th_day() {
    let site = Site::new().await;
    let made = site.submit("u_own.1", "/new", &NEW).await;
    let key = format!("/keys/{}", site.shown("u_own", &made).await.id);
    site.pass(89);
    assert!(!site.page("u_own.1", &key).await.contains("old: rotate it"));
    site.pass(1);
    assert!(site.page("u_own.1", &key).await.contains("90 days old: rotate it"));
    assert!(site.page("u_own.1", "").await.contains("90 days old: rotate it"));
}

#[tokio::test]
async fn keys_that_end_soon_are_called_so() {
    let site = Site::new().await;
    let fields = [("name", "CI"), ("level", "USER"), ("environment", "live"), ("expires", "30")];
    let made = site.submit("u_own.1", "/new", &fields).await;
    let key = format!("/keys/{}", site.shown("u_own", &made).await.id);
    for (days, said) in [(15, "Ends in"), (1, "Ends in 14 days"), (13, "Ends in 1 day"), (1, "Expired")] {
        let before = site.page("u_own.1", &key).await;
        assert!(!before.contains(said), "{said}");
        site.pass(days);
        // The first one is not mentioned yet.
        assert_eq!(site.page("u_own.1", &key).await.contains(said), days != 15, "{said}");
    }
}

#[tokio::test]
async fn keys_are_listed_by_state_environment_and_name() {
    let site = Site::new().await;
    for (name, environment) in [("Alpha", "live"), ("Beta", "test")] {
        let fields = [("name", name), ("level", "USER"), ("environment", environment), ("expires", "never")];
        site.submit("u_own.1", "/new", &fields).await;
        site.clock.advance(Duration::from_secs(1));
    }
    let of = async |query: &str| -> Vec<String> {
        let page = html::parse(&site.page("u_own.1", query).await);
        let names = page
            .windows(2)
            .filter(|pair| pair[0].attributes.get("class").is_some_and(|class| class == "name"));
        names.map(|pair| pair[1].text.clone()).collect()
    };
    let own = "u_own's";
    assert_eq!(of("").await, ["Beta", "Alpha", own, own, own]);
    assert_eq!(of("?environment=test").await, ["Beta", own]);
    assert_eq!(of("?state=ended").await, [own, own]);
    assert_eq!(of("?state=all").await.len(), 7);
    assert_eq!(of("?q=ALPH").await, ["Alpha"]);
    assert_eq!(of("?q=p1").await, [own]);
    assert_eq!(of("?project=p1&environment=all").await, [own]);
    assert!(of("?project=p2").await.is_empty());
    assert_eq!(of("?state=odd&environment=odd&else=1").await.len(), 5);
    assert!(site.page("u_own.1", "?q=nothing").await.contains("No key matches"));
    assert!(site.page("u_own.1", "?q=%3Cscript%3E").await.contains("value=\"&#60;script&#62;\""));
    assert_eq!(site.get("u_own.1", "?after=key_unknown").await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("u_own.1", "?before=key_unknown").await.status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("u_own.1", "?q=1&q=2").await.status, StatusCode::NOT_FOUND);
    // Another person of the same account, without keys.
    let nobody = site.page("u_newcomer.1", "").await;
    assert!(nobody.contains("You have no keys yet"));
}

#[tokio::test]
async fn r25_r26_a_page_shows_the_current_rights_of_a_key() {
    let site = Site::new().await;
    let says = async |session: &str, path: &str| site.page(session, path).await;
    let own = site.first("u_own").await;
    assert!(
        says("u_own.1", &own)
            .await
            .contains("As much as you have in your account: OWNER (reads and writes).")
    );
    let ro = site.first("u_ro").await;
    assert!(says("u_ro.1", &ro).await.contains("READONLY (only reads)"));
    let p1 = site.keys("u_own").await.into_iter().find(|key| key.level.project().is_some()).unwrap();
    let p1 = format!("/keys/{}", p1.id);
    assert!(says("u_own.1", &p1).await.contains("on project p1: OWNER"));
    use tower_api_key::store::Accounts as _;
    store(&site).delete_project("A", &test_kit::project("p1")).await.unwrap();
    assert!(
        says("u_own.1", &p1)
            .await
            .contains("you have no access on project p1, and the key is refused with 403")
    );
    site.submit("u_own.1", &format!("{p1}/revoke"), &[]).await;
    assert!(says("u_own.1", &p1).await.contains("the key has ended"));
}

#[tokio::test]
async fn it_stands_where_it_is_put() {
    let world = World::new().await;
    let keyring = || Keyring::new(world.store.clone());
    let at_root: Router = portal(keyring(), world.store.clone()).router();
    let deep = Router::new()
        .nest("/a/{team}", Router::new().nest("/b", portal(keyring(), world.store.clone()).router()));
    for (app, mount, home) in [(at_root, "", "/"), (deep, "/a/x%20y/b", "/a/x%20y/b")] {
        let page = send(&app, test_kit::get(home, &[("cookie", "session=u_own.1"), ("host", HOST)])).await;
        assert_eq!(page.status, StatusCode::OK, "{home}");
        for element in html::parse(&text(&page)) {
            for (name, value) in element.attributes {
                if ["href", "src"].contains(&&*name) && value != "#main" {
                    assert!(value.starts_with(&format!("{mount}/")) || value == home, "{name}={value}");
                }
            }
        }
        let new = send(&app, test_kit::get(&format!("{mount}/new"), &[("cookie", "session=u_own.1")])).await;
        assert!(text(&new).contains(&format!("action=\"{mount}/new\"")), "{app:?}, {mount:?}, {home:?}");
        let id = text(&page).split_once("/keys/").unwrap().1.split_once('"').unwrap().0.to_owned();
        let key =
            send(&app, test_kit::get(&format!("{mount}/keys/{id}"), &[("cookie", "session=u_own.1")])).await;
        assert_eq!(key.status, StatusCode::OK, "{app:?}, {mount:?}, {home:?}");
    }
}
