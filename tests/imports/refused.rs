//! Which keys are not imported, and what is said of them.

use tower_api_key::{Environment, KeyFormat, ProjectId};

use super::elsewhere::ring;
use super::*;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

async fn refused(keys: impl IntoIterator<Item = ImportedKey, IntoIter: Send>) -> Vec<String> {
    let report = Keyring::new(people().await).digests(ring()).import(keys).await.unwrap();
    reasons(&report).into_iter().map(|(_, id, reason)| format!("{id}: {reason}")).collect()
}

#[tokio::test]
async fn digests_in_every_spelling_are_one() {
    let spellings = [
        HEX.to_owned(),
        HEX.to_uppercase(),
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".to_owned(),
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg".to_owned(),
        "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg=".to_owned(),
        "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg".to_owned(),
    ];
    for hash in spellings {
        let store = people().await;
        let keyring = Keyring::new(store.clone());
        let report = keyring.import([imported("k", ImportedDigest::sha256(&hash))]).await.unwrap();
        assert_eq!(report.imported, 1, "{hash}");
        let site = site(Verifier::new(store).accept_foreign_keys());
        assert_eq!(status(&site, "test").await, 200, "{hash}");
    }
}

#[tokio::test]
async fn what_is_no_digest_is_refused() {
    const NONE: &str = "this is no digest of that kind, in hexadecimal or base64";
    let long = format!("{HEX}{HEX}");
    for hash in [
        "",
        "=",
        "test",
        &HEX[1..],
        &long,
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg==",
        "n4bQgYhMfWWaL+qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
        "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCg",
        " n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg",
        "gf86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ] {
        let keys = [
            imported("a", ImportedDigest::sha256(hash)),
            imported("b", ImportedDigest::sanctum(1, hash)),
            imported("c", ImportedDigest::hmac("elsewhere", hash)),
        ];
        let expected = ["a", "b", "c"].map(|id| format!("{id}: {NONE}"));
        assert_eq!(refused(keys).await, expected, "{hash}");
    }
    for hash in ["", HEX, "sha512$$", "sha512$x$abc"] {
        assert_eq!(refused([imported("a", ImportedDigest::sha512(hash))]).await, [format!("a: {NONE}")]);
    }
    for id in ["", "1|2"] {
        assert_eq!(refused([imported("a", ImportedDigest::sanctum(id, HEX))]).await, [format!("a: {NONE}")]);
    }
}

#[tokio::test]
async fn the_report_says_which_and_why_and_the_others_come_in() {
    let store = people().await;
    let keyring = Keyring::new(store.clone());
    let text = |text: &str| ImportedDigest::plaintext(text);
    let live = KeyFormat::default().generate(Environment::Live).unwrap();
    let secret = live.expose_secret().to_owned();
    let stray = |name: &str| ImportedKey::new(id(name), NewKey::user_level(user("nobody"), "x"), text(name));
    let on_p9 = NewKey::project_level(user("alice"), "x", ProjectId::new("p9").unwrap());
    let keys = vec![
        imported("first", text("first")),
        imported("same_text", text("unused")),
        imported("second", text("first")),
        ImportedKey::new(
            id("first"),
            NewKey::user_level(user("alice"), "x").environment(Environment::Test),
            text("y"),
        ),
        imported("sha512", ImportedDigest::sha512(HEX.repeat(2))),
        imported("pepper", ImportedDigest::hmac("p", HEX)),
        imported("no_pepper", ImportedDigest::hmac("p$", HEX)),
        stray("stray"),
        ImportedKey::new(id("p9"), on_p9, text("p9")),
        stray("ended").revoked_at(Timestamp::from_secs(5)),
        imported("long", text(&"x".repeat(513))),
        imported("empty", text("")),
        ImportedKey::new(id("test"), alices("x").environment(Environment::Test), text(&secret)),
        ImportedKey::new(id("name"), alices("\u{202E}"), text("name")),
        ImportedKey::new(id("scope"), alices("x").scopes(["a b"]), text("scope")),
        imported("old", text("old")).created_at(Timestamp::from_secs(-1)),
        ImportedKey::new(id("expired"), alices("x").expires_at(Timestamp::from_secs(9)), text("expired")),
        imported("last", text("last")),
    ];
    let report = keyring.import(keys).await.unwrap();
    let digest_taken = "another key has the same digest, or, with a slow hash, the same start";
    let unfound = |kind: &str| {
        format!(
            "the keyring's `DigestRing` does not accept keys of the kind {kind:?}, so that none would ever be found"
        )
    };
    let owner = "the owner is not in good standing or has no access to the key's project";
    let expected = [
        (2, "second", digest_taken.to_owned()),
        (3, "first", "another key has that id".to_owned()),
        (4, "sha512", unfound("sha512")),
        (5, "pepper", unfound("hmac:p")),
        (6, "no_pepper", unfound("hmac")),
        (7, "stray", owner.to_owned()),
        (8, "p9", owner.to_owned()),
        (10, "long", "a key is 1 to 512 bytes long, and holds no NUL".to_owned()),
        (11, "empty", "a key is 1 to 512 bytes long, and holds no NUL".to_owned()),
        (12, "test", "the text of the key says that it is of the other environment".to_owned()),
        (
            13,
            "name",
            "a key's name is 1 to 64 characters, without control, bidirectional and invisible characters"
                .to_owned(),
        ),
        (
            14,
            "scope",
            "a key has at most 64 scopes, each 1 to 64 visible ASCII characters without \" and \\".to_owned(),
        ),
        (15, "old", "the key makes no sense: a time of a key is before 1970".to_owned()),
    ];
    assert_eq!(reasons(&report), expected);
    assert_eq!((report.imported, report.already_there), (5, 0));
    let said = format!("{report:?}");
    assert!(!said.contains(&secret) && !said.contains(HEX), "{said}");
    let site = site(Verifier::new(store).accept_foreign_keys());
    for (key, expected) in [("first", 200), ("last", 200), ("expired", 401), ("ended", 401), ("stray", 401)] {
        assert_eq!(status(&site, key).await, expected, "{key}");
    }
}

/// What is imported keeps what is said of it.
#[tokio::test]
async fn an_imported_key_is_what_it_was() {
    let keyring = Keyring::new(people().await);
    let new = NewKey::project_level(user("alice"), "CI", ProjectId::new("p1").unwrap())
        .environment(Environment::Test)
        .expires_at(Timestamp::from_secs(5_000_000_000))
        .scopes(["builds:write"])
        .metadata("team", "infrastructure")
        .limits("5/min".parse::<tower_api_key::limit::Limit>().unwrap());
    let key = ImportedKey::new(id("k"), new, ImportedDigest::sha256(HEX)).created_at(Timestamp::from_secs(7));
    assert_eq!(keyring.import([key]).await.unwrap().imported, 1);
    let key = keyring.get(&id("k")).await.unwrap().unwrap();
    assert_eq!(key.level.project().unwrap().as_str(), "p1");
    assert_eq!((key.environment, &*key.name), (Environment::Test, "CI"));
    assert_eq!((key.created_at, key.revoked_at), (Timestamp::from_secs(7), None));
    assert_eq!(key.expires_at, Some(Timestamp::from_secs(5_000_000_000)));
    assert!(key.scopes.contains("builds:write") && key.metadata["team"] == "infrastructure");
    assert_eq!(key.limits.unwrap().to_string(), "5/min");
    assert_eq!(key.family, id("k"));
}

#[test]
fn what_is_imported_shows_nothing() {
    let shown = format!("{:?}", imported("k", ImportedDigest::plaintext("a secret")));
    assert!(!shown.contains("a secret"), "{shown}");
    let shown = format!("{:?}", imported("k", ImportedDigest::sha256(HEX)));
    assert!(!shown.contains(HEX), "{shown}");
}
