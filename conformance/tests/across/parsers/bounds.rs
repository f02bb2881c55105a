//! c17_b2: the size of a key's data is limited everywhere, and larger data from earlier releases is kept.

use serde_json::json;
use tower_api_key::restriction::{EndpointRestriction, RequestContext, Restrictions};
use tower_api_key::store::KeyStore as _;
use tower_api_key::{Grace, KeyRecord, KeyringError};
use tower_api_key_sqlite::SqliteStore;

use super::*;

/// Restrictions of `len` bytes of text, or a few more.
fn long(len: usize) -> Restrictions {
    let one = (len - 60).div_ceil(100) - 10;
    let entries: Vec<String> =
        (0..100).map(|number| format!("GET /{number:02}{}", "x".repeat(one))).collect();
    let made = Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap());
    assert!((len..len + 200).contains(&made.text_len()), "{} and {len}", made.text_len());
    made
}

/// Writes directly into the file, like a release that had no limit.
fn write_before(site: &Site, id: &KeyId, restrictions: &Restrictions) {
    let text = restrictions.to_string();
    let written = site
        .operator()
        .execute("UPDATE keys SET restrictions = ?2 WHERE id = ?1", [id.as_str(), &text])
        .unwrap();
    assert_eq!(written, 1);
}

fn as_lines(restrictions: &Restrictions) -> String {
    let rules = restrictions.get_endpoints().unwrap().rules();
    rules.iter().map(|rule| format!("{rule}\r\n")).collect()
}

#[tokio::test]
async fn c17_b2_restrictions_and_metadata_are_limited_in_all_interfaces() {
    let site = Site::new().await;
    let (fits, too_long) =
        (long(KeyRecord::MAX_RESTRICTIONS_LEN - 300), long(KeyRecord::MAX_RESTRICTIONS_LEN + 1));
    let body = |restrictions: &Restrictions| json!({"name": "CI", "restrictions": restrictions});
    let form = |lines: &str| {
        let fields = [("endpoints_mode", "enforce".to_owned()), ("endpoints", lines.to_owned())];
        fields.map(|(name, value)| (name.to_owned(), value))
    };
    let (short_lines, long_lines) = (form(&as_lines(&fits)), form(&as_lines(&too_long)));
    let borrowed = |fields: &[(String, String)]| -> Vec<(String, String)> { fields.to_vec() };
    let with = |fields: &[(&str, &str)], more: &[(String, String)]| {
        let mut all: Vec<(String, String)> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.extend(borrowed(more));
        all
    };
    async fn submit(site: &Site, path: &str, fields: Vec<(String, String)>) -> Answer {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
        site.submit(path, &fields).await
    }
    let restrictions_of_first = format!("/keys/{}/restrictions", site.id);

    // Data within the limit is accepted everywhere.
    assert_eq!(site.create(&body(&fits)).await.status, StatusCode::CREATED);
    assert_eq!(submit(&site, "/new", with(&NEW, &short_lines)).await.status, StatusCode::CREATED);
    let text_of = fits.to_string();
    let (code, _, err) =
        site.shell(&["create", "--owner", "alice", "--name", "CI", "--restrictions", &text_of], "");
    assert_eq!(code, 0, "{err}");
    let count = site.keyring.list(&site.owner, &Default::default()).await.unwrap().len();

    // Data above the limit is refused everywhere, with the reason.
    let refused = site.create(&body(&too_long)).await;
    assert_eq!(refused.verdict(), "422/invalid_restrictions");
    assert!(text(&refused).contains("8 KiB"), "{}", text(&refused));
    let refused = site.patch(&site.id, &body(&too_long)).await;
    assert_eq!(refused.verdict(), "422/invalid_restrictions");
    for (path, fields) in
        [("/new", with(&NEW, &long_lines)), (&*restrictions_of_first, with(&[], &long_lines))]
    {
        let refused = submit(&site, path, fields).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{path:?}");
        assert!(text(&refused).contains("at most 8 KiB of text"), "{path}");
    }
    let text_of = too_long.to_string();
    let line = |members: Value| {
        let mut line = json!({"id": "old_1", "owner": "alice", "name": "CI", "key": "secret-of-elsewhere"});
        line.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        line.to_string()
    };
    // Each entry is within its own limit, but all of them together are not.
    let entries: Vec<String> = (0..20).map(|number| format!("{number}={}", "m".repeat(500))).collect();
    let metadata: serde_json::Map<String, Value> = entries
        .iter()
        .map(|entry| entry.split_once('=').unwrap())
        .map(|(n, v)| (n.into(), v.into()))
        .collect();
    let mut many = vec!["create", "--owner", "alice", "--name", "CI"];
    many.extend(entries.iter().flat_map(|entry| ["--metadata", &**entry]));
    for (args, stdin) in [
        (vec!["create", "--owner", "alice", "--name", "CI", "--restrictions", &text_of], String::new()),
        (vec!["amend", site.id.as_str(), "--restrictions", &text_of], String::new()),
        (vec!["import", "-"], line(json!({"restrictions": too_long}))),
        (vec!["import", "-"], line(json!({"metadata": metadata}))),
        (many, String::new()),
    ] {
        let (code, out, err) = site.shell(&args, &stdin);
        // Arguments are checked before the store is opened.
        let expected = if args[0] == "create" { 2 } else { 1 };
        assert_eq!(code, expected, "{:?} {out} {err}", args.first());
        assert!(format!("{out}{err}").contains("8 KiB"), "{:?} {out} {err}", args.first());
    }
    let new = |restrictions, metadata: &str| {
        let new = NewKey::user_level(site.owner.clone(), "CI").restrictions(restrictions);
        (0..17).fold(new, |new, number| new.metadata(format!("{number}"), metadata))
    };
    let refused = site.keyring.issue(new(too_long.clone(), "")).await;
    assert!(matches!(refused, Err(KeyringError::Restrictions)), "{refused:?}");
    // In JSON, seventeen values of control characters are six times as long.
    let refused =
        site.keyring.issue(new(fits.clone(), &"\u{1}".repeat(KeyRecord::MAX_METADATA_LEN / 17 / 6))).await;
    assert!(matches!(refused, Err(KeyringError::Metadata)), "{refused:?}");

    assert_eq!(site.keyring.list(&site.owner, &Default::default()).await.unwrap().len(), count);
    assert!(site.record(&site.id).await.restrictions.is_none(), "what is refused changes nothing");
}

#[tokio::test]
async fn c17_b2_longer_restrictions_of_earlier_releases_can_only_become_shorter() {
    let site = Site::new().await;
    let made = site.keyring.issue(NewKey::user_level(site.owner.clone(), "old")).await.unwrap();
    let (key, id) = (made.key().expose_secret().to_owned(), made.record().id.clone());
    let (before, longer, shorter) = (long(30_000), long(30_300), long(20_000));
    write_before(&site, &id, &before);

    // The store reads longer restrictions; they are enforced, shown, and kept by a rotation.
    let store = SqliteStore::open(site.path("keys.db")).await.unwrap();
    let found = store.find(&made.key().digest()).await.unwrap().unwrap();
    assert_eq!(found.restrictions, before);
    let allowed = Method::GET;
    let allows = |path: &str| before.judge(&RequestContext::new().endpoint(&allowed, path)).is_allowed();
    let entry = before.get_endpoints().unwrap().rules()[99].to_string();
    assert!(allows(entry.strip_prefix("GET ").unwrap()) && !allows("/elsewhere"));
    let refused =
        send(&site.app, request("GET", "/echo", &[("authorization", &format!("Bearer {key}"))], "")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
    for path in [format!("/keys/{id}"), format!("/keys/{id}/restrictions")] {
        let page = text(&site.page(&path).await);
        assert!(page.contains("are 30 KiB of text; the limit is now 8 KiB"), "{path}");
    }
    assert!(
        !text(&site.page(&format!("/keys/{}", site.id)).await).contains("KiB"),
        "of others nothing is said"
    );

    // They cannot be made longer. Other changes of the key still work.
    let refused = site.keyring.restrict(&id, &longer).await;
    assert!(matches!(refused, Err(KeyringError::Restrictions)), "{refused:?}");
    let path = format!("/keys/{id}/restrictions");
    let form = [("endpoints_mode", "enforce"), ("endpoints", &as_lines(&longer))];
    let refused = site.submit(&path, &form).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let longer_text = longer.to_string();
    let (code, _, err) = site.shell(&["amend", id.as_str(), "--restrictions", &longer_text], "");
    assert_eq!(code, 1, "{err}");
    assert_eq!(site.record(&id).await.restrictions, before);
    assert_eq!(site.patch(&id, &json!({"name": "renamed"})).await.status, StatusCode::OK);
    let rotated = site.keyring.rotate(&id, Grace::None).await.unwrap();
    let id = rotated.record().id.clone();
    assert_eq!(site.record(&id).await.restrictions, before);

    // They can be made shorter: in the portal, if they fit into its form, and through the route.
    let path = format!("/keys/{id}/restrictions");
    let form = [("endpoints_mode", "observe"), ("endpoints", &as_lines(&shorter))];
    let saved = site.submit(&path, &form).await;
    assert_eq!(saved.status, StatusCode::SEE_OTHER, "{}", text(&saved));
    let now = site.record(&id).await.restrictions;
    assert_eq!(now.get_endpoints().unwrap().rules(), shorter.get_endpoints().unwrap().rules());
    assert!(matches!(site.keyring.restrict(&id, &before).await, Err(KeyringError::Restrictions)));
    let least = json!({"restrictions": {"endpoints": {"allow": ["GET /a"]}}});
    assert_eq!(site.patch(&id, &least).await.status, StatusCode::OK);
    assert_eq!(
        site.patch(&id, &json!({"restrictions": long(KeyRecord::MAX_RESTRICTIONS_LEN + 1)})).await.status,
        422
    );
}

#[tokio::test]
async fn c17_b2_pages_are_limited_by_size_and_continue() {
    let site = Site::new().await;
    let heavy = long(50_000);
    let mut ids = vec![site.id.to_string()];
    for number in 0..19 {
        let made = site.keyring.issue(NewKey::user_level(site.owner.clone(), format!("key {number}"))).await;
        let id = made.unwrap().record().id.clone();
        write_before(&site, &id, &heavy);
        ids.push(id.to_string());
    }
    // In the portal, "More keys" leads to the next page.
    let (mut seen, mut asked, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = text(&site.page(&asked).await);
        let of = |id: &&String| page.contains(&format!("/keys/{id}\""));
        seen.extend(ids.iter().filter(of).cloned());
        pages += 1;
        assert!(pages < 50);
        let Some((before, _)) = page.split_once(">More keys<") else { break };
        let (_, link) = before.rsplit_once("href=\"").unwrap();
        let (_, query) = link.split_once('"').unwrap().0.split_once('?').unwrap();
        asked = format!("?{}", query.replace("&#38;", "&"));
    }
    seen.sort();
    let mut all = ids.clone();
    all.sort();
    assert_eq!(seen, all, "the pages of the portal");
    assert!(pages >= 4, "{pages} pages of the portal");

    for limit in ["", "&limit=3", "&limit=20"] {
        let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = site.call("GET", &format!("?{cursor}{limit}"), "").await;
            assert_eq!(page.status, StatusCode::OK, "{}", text(&page));
            assert!(page.body.len() < 400_000, "a page is {} bytes", page.body.len());
            let page = page.json();
            let rows = page["data"].as_array().unwrap();
            seen.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            assert!(!rows.is_empty() && pages < 50, "{limit:?}");
            cursor = format!("cursor={next}");
        }
        seen.sort();
        assert_eq!(seen, all, "{limit}");
        assert!(pages >= 4, "{pages} pages");
    }
}
