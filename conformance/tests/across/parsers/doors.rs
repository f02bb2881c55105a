//! Times, names and ids follow the same rules in all interfaces.

use serde_json::json;

use super::*;

/// Imports one key with these members beside the usual ones; returns the exit code and the messages.
fn import(site: &Site, members: &Value) -> (i32, String) {
    let id = members.get("id").cloned().unwrap_or_else(|| json!("old_1"));
    let mut line = json!({"owner": site.owner.as_str(), "name": "CI", "key": format!("elsewhere-{}", id.as_str().unwrap())});
    line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    line["id"] = id;
    let (code, out, err) = site.shell(&["import", "-"], &line.to_string());
    (code, format!("{out}{err}"))
}

#[tokio::test]
async fn c17_d5_times_are_rfc_3339_in_all_interfaces() {
    let site = Site::new().await;
    let owner = site.owner.to_string();
    let right = [
        ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ("2190-01-01t00:00:00z", "2190-01-01T00:00:00Z"),
        ("2190-01-01T00:00:00.999999999Z", "2190-01-01T00:00:00Z"),
        ("2190-01-01T01:30:00+01:30", "2190-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59-23:59", "9999-12-31T23:59:59Z"),
    ];
    for (number, (written, read)) in right.into_iter().enumerate() {
        let made = site.create(&json!({"name": "CI", "expires_at": written})).await;
        assert_eq!(made.json()["data"]["expires_at"], read, "{written}");
        let (code, out, err) =
            site.shell(&["--json", "create", "--owner", &owner, "--name", "CI", "--expires", written], "");
        assert_eq!(code, 0, "{err}");
        let made: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(made["expires_at"], read, "{written}");
        let id = format!("old_{number}");
        let (code, said) = import(&site, &json!({"id": id, "expires_at": written, "created_at": written}));
        assert_eq!(code, 0, "{written}: {said}");
        let (_, out, _) = site.shell(&["--json", "show", &id], "");
        let shown: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((&shown["expires_at"], &shown["created_at"]), (&json!(read), &json!(read)), "{written}");
        let page = text(&site.page(&format!("/keys/{id}")).await);
        assert!(page.contains(&format!("datetime=\"{read}\"")), "{written}");
    }
    for wrong in [
        "21900101T000000Z",
        "2190-01-01T000000Z",
        "2190-01-01",
        "2190-01-01T00:00:00",
        "2190-01-01 00:00:00Z",
        "2190-01-01T00:00:00+24:00",
        "2190-01-01T00:00:00+0100",
        "12190-01-01T00:00:00Z",
        "+002190-01-01T00:00:00Z",
        "2190-01-01T00:00:00Z[UTC]",
        "2190-01-01T00:00:00+01:00[Europe/Berlin]",
        "2190-02-30T00:00:00Z",
        "2190-01-01T24:00:00Z",
        " 2190-01-01T00:00:00Z",
        "6942672000",
    ] {
        let refused = site.create(&json!({"name": "CI", "expires_at": wrong})).await;
        assert_eq!(refused.verdict(), "422/invalid_expires_at", "{wrong}");
        let (code, _, err) =
            site.shell(&["create", "--owner", &owner, "--name", "CI", &format!("--expires={wrong}")], "");
        assert!(code == 2 && err.contains("RFC 3339"), "{wrong}: {code} {err}");
        for member in ["expires_at", "created_at", "revoked_at"] {
            let (code, said) = import(&site, &json!({"id": "wrong", member: wrong}));
            assert!(code == 2 && said.contains(member), "{member} {wrong}: {code} {said}");
        }
    }
    // A date field contains a day.
    let form = |day| [NEW.as_slice(), &[("expires", "on"), ("expires_on", day)]].concat();
    let form = |day| form(day).into_iter().filter(|field| *field != ("expires", "never")).collect::<Vec<_>>();
    let made = site.submit("/new", &form("9999-12-31")).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", text(&made));
    assert!(text(&made).contains("datetime=\"9999-12-31T23:59:59Z\""));
    for wrong in ["21900101", "12190-01-01", "2190-02-30", "2190-01-01T00:00:00Z", "2190-W01-1", ""] {
        let refused = site.submit("/new", &form(wrong)).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}");
    }
    let validated =
        send(&site.app, request("GET", "/validate", &[("authorization", &bearer(&site.key))], ""));
    assert_eq!(validated.await.json()["data"]["expiry"], Value::Null);
}

#[tokio::test]
async fn c17_d4_names_have_the_same_rules_in_all_interfaces() {
    let site = Site::new().await;
    let owner = site.owner.to_string();
    let settings = format!("/keys/{}/settings", site.id);
    for (number, right) in
        ["می\u{200C}خواهم", "ශ්\u{200D}රී ලංකා", "👩\u{200D}💻", "❤\u{FE0F} key"].into_iter().enumerate()
    {
        let made = site.create(&json!({"name": right})).await;
        assert_eq!(made.json()["data"]["name"], right, "{}", text(&made));
        assert_eq!(
            site.patch(&site.id, &json!({"name": right})).await.json()["data"]["name"],
            right,
            "{number:?}, {right:?}"
        );
        assert_eq!(
            site.submit(&settings, &[("name", right), ("limits", "")]).await.status,
            StatusCode::SEE_OTHER,
            "{number:?}, {right:?}"
        );
        let (code, _, err) = site.shell(&["create", "--owner", &owner, "--name", right], "");
        assert_eq!(code, 0, "{err}");
        let (code, said) = import(&site, &json!({"id": format!("old_{number}"), "name": right}));
        assert_eq!(code, 0, "{said}");
    }
    let before = site.record(&site.id).await.name;
    for wrong in
        ["\u{3164}", "\u{2800}", "\u{FE0F}", "\u{34F}", "a\u{200D}", "a\u{200B}b", "a\u{202E}b", "a\u{FE0F}b"]
    {
        assert_eq!(site.create(&json!({"name": wrong})).await.verdict(), "422/invalid_name", "{wrong:?}");
        assert_eq!(
            site.patch(&site.id, &json!({"name": wrong})).await.verdict(),
            "422/invalid_name",
            "{wrong:?}"
        );
        for (path, fields) in [
            ("/new", [&[("name", wrong)], &NEW[1..]].concat()),
            (&*settings, vec![("name", wrong), ("limits", "")]),
        ] {
            let refused = site.submit(path, &fields).await;
            assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
        }
        for args in [
            vec!["create", "--owner", &owner, "--name", wrong],
            vec!["amend", site.id.as_str(), "--name", wrong],
        ] {
            assert_eq!(site.shell(&args, "").0, 2, "{wrong:?}");
        }
        let (code, said) = import(&site, &json!({"id": "wrong", "name": wrong}));
        assert!(code == 1 && said.contains("invisible"), "{wrong:?}: {said}");
    }
    assert_eq!(site.record(&site.id).await.name, before);
}

#[tokio::test]
async fn c17_d7_ids_of_identity_providers_work_in_all_interfaces() {
    for owner in ["auth0|5f7c", "a+b@example.com", "dXNlcg=="] {
        let site = Site::of(owner).await;
        // The layer, a body with a user id, and the response to both.
        let validated =
            send(&site.app, request("GET", "/validate", &[("authorization", &bearer(&site.key))], "")).await;
        assert_eq!(validated.json()["data"]["user_id"], owner, "{owner:?}");
        let claim = |user: &str| {
            let key = site.key.expose_secret();
            test_kit::post_json("/echo", json!({"apiKey": key, "userId": user, "projectId": "p1"}))
        };
        site.shell(&["project", "create", "A", "p1"], "");
        let came_in = send(&site.app, claim(owner)).await;
        assert_eq!(came_in.json()["principal"]["user"], owner, "{}", text(&came_in));
        let other = format!("{owner}|");
        assert_eq!(send(&site.app, claim(&other)).await.status, StatusCode::UNAUTHORIZED, "{owner:?}");
        let question = json!({"user_id": owner}).to_string();
        let explained = site.call("POST", &format!("/{}/explain", site.id), &question).await;
        assert_eq!(explained.json()["data"]["user_id"], owner, "{}", text(&explained));
        // The routes, the pages with their links, and the audit log.
        let made = site.create(&json!({"name": "CI"})).await;
        let id = KeyId::new(made.json()["data"]["id"].as_str().unwrap()).unwrap();
        assert_eq!(site.record(&id).await.owner.as_str(), owner, "{owner:?}");
        assert!(text(&site.page("").await).contains(id.as_str()), "{owner:?}");
        let settings = format!("/keys/{id}/settings");
        assert_eq!(
            site.submit(&settings, &[("name", "new"), ("limits", "")]).await.status,
            StatusCode::SEE_OTHER,
            "{owner:?}"
        );
        let page = text(&site.page(&format!("/keys/{id}")).await);
        assert!(page.contains(">you<"), "the trail knows its visitor: {page}");
        // The command line, and an import.
        for args in [
            vec!["create", "--owner", owner, "--name", "CI"],
            vec!["list", "--owner", owner],
            vec!["member", "set", "A", "idp|1+2=", "--role", "full"],
            vec!["create", "--owner", "idp|1+2=", "--name", "CI"],
            vec!["explain", id.as_str(), "--user", owner],
            vec!["member", "remove", "A", "idp|1+2="],
        ] {
            let (code, out, err) = site.shell(&args, "");
            assert_eq!(code, 0, "{args:?} {out} {err}");
        }
        let (code, said) = import(&site, &json!({}));
        assert_eq!(code, 0, "{said}");
        // Other ids have the same rules as before.
        for args in [
            vec!["project", "create", "A", "p|1"],
            vec!["account", "create", "A|1", "--owner", "bob"],
            vec!["show", "key|1"],
            vec!["create", "--owner", "a b", "--name", "CI"],
        ] {
            assert_ne!(site.shell(&args, "").0, 0, "{args:?}");
        }
    }
}

#[tokio::test]
async fn c17_d6_limits_with_spaces_and_lists_with_commas_are_understood_or_explained() {
    let site = Site::new().await;
    let made = site.create(&json!({"name": "CI", "limits": "12/min, 200/30d"})).await;
    assert_eq!(made.json()["data"]["limits"], "12/min,200/30d", "{}", text(&made));
    let settings = format!("/keys/{}/settings", site.id);
    let saved = site.submit(&settings, &[("name", "first"), ("limits", "12/min, 200/30d")]).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER);
    assert_eq!(site.record(&site.id).await.limits.unwrap().to_string(), "12/min,200/30d");
    let (code, _, err) =
        site.shell(&["create", "--owner", "alice", "--name", "CI", "--limits", "12/min, 200/30d"], "");
    assert_eq!(code, 0, "{err}");
    let (code, said) = import(&site, &json!({"limits": "12/min, 200/30d"}));
    assert_eq!(code, 0, "{said}");
    let refused = site.create(&json!({"name": "CI", "limits": ["12/min, 200/30d"]})).await;
    assert!(text(&refused).contains("a comma stands between limits"), "{}", text(&refused));

    let several = json!({"ip": {"allow": ["192.0.2.0/24, 2001:db8::/32"]}});
    let refused = site.create(&json!({"name": "CI", "restrictions": several})).await;
    assert_eq!(refused.verdict(), "422/invalid_restrictions");
    assert!(text(&refused).contains("without the comma"), "{}", text(&refused));
    let fields = [NEW.as_slice(), &[("ip_mode", "enforce"), ("ip", "192.0.2.0/24, 2001:db8::/32")]].concat();
    let refused = site.submit("/new", &fields).await;
    assert!(text(&refused).contains("without the comma"), "{}", text(&refused));
    let several = several.to_string();
    let (code, _, err) =
        site.shell(&["create", "--owner", "alice", "--name", "CI", "--restrictions", &several], "");
    assert!(code == 2 && err.contains("without the comma"), "{err}");
}
