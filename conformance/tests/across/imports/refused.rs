//! Which keys are not imported, and the reasons in the report.

use tower_api_key::{Environment, KeyFormat, ProjectId};

use super::elsewhere::ring;
use super::*;
use tower_api_key::ApiKeys;

const HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

const TEXT: &str = "a key is 1 to 512 visible ASCII characters without quotes, as a header carries it: if clients send this \
                    one otherwise, import its digest";

async fn refused(keys: impl IntoIterator<Item = ImportedKey, IntoIter: Send>) -> Vec<String> {
    let report = ApiKeys::new(people().await).digests(ring()).keyring().import(keys).await.unwrap();
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
        // As PostgreSQL writes bytes, and with the name of the hash.
        format!("\\x{HEX}"),
        format!("sha256:{HEX}"),
        format!("sha256${HEX}"),
        format!("sha256$${HEX}"),
        format!("SHA256:{HEX}"),
        format!("sha256:\\x{HEX}"),
        "sha256:n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".to_owned(),
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
    const NONE: &str = "this is not a digest of that kind in hexadecimal or base64";
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
        assert_eq!(
            refused([imported("a", ImportedDigest::sha512(hash))]).await,
            [format!("a: {NONE}")],
            "{hash:?}"
        );
    }
    for id in ["", "1|2"] {
        assert_eq!(
            refused([imported("a", ImportedDigest::sanctum(id, HEX))]).await,
            [format!("a: {NONE}")],
            "{id:?}"
        );
    }
}

#[tokio::test]
async fn the_report_has_the_reasons_and_other_keys_are_imported() {
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
            "the keyring's `Digests` does not accept keys of the kind {kind:?}, so that none would ever be found"
        )
    };
    let owner = "the owner's account is not active, or the owner has no access to the key's project";
    let expected = [
        (2, "second", digest_taken.to_owned()),
        (3, "first", "another key has that id".to_owned()),
        (4, "sha512", unfound("sha512")),
        (5, "pepper", unfound("hmac:p")),
        (6, "no_pepper", unfound("hmac")),
        (7, "stray", owner.to_owned()),
        (8, "p9", owner.to_owned()),
        (10, "long", TEXT.to_owned()),
        (11, "empty", TEXT.to_owned()),
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
        (15, "old", "the key is not valid: a time of a key is before 1970".to_owned()),
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

/// An imported key keeps all its attributes.
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
fn an_imported_key_has_no_prefix_or_last4() {
    let shown = format!("{:?}", imported("k", ImportedDigest::plaintext("a secret")));
    assert!(!shown.contains("a secret"), "{shown}");
    let shown = format!("{:?}", imported("k", ImportedDigest::sha256(HEX)));
    assert!(!shown.contains(HEX), "{shown}");
}

async fn import_one(keyring: &Keyring, digest: ImportedDigest) -> (usize, usize, Vec<String>) {
    let report = keyring.import([imported("k", digest)]).await.unwrap();
    let reasons = reasons(&report).into_iter().map(|(_, _, reason)| reason).collect();
    (report.imported, report.already_there, reasons)
}

fn there() -> (usize, usize, Vec<String>) {
    (0, 1, Vec::new())
}

fn id_taken() -> (usize, usize, Vec<String>) {
    (0, 0, vec!["another key has that id".to_owned()])
}

/// Otherwise the second key's client would get 401 after the move, and nobody would know why.
#[tokio::test]
async fn c17_d2_another_key_with_an_existing_id_is_refused() {
    let text = |text: &str| ImportedDigest::plaintext(text);
    let (first, second) = (HEX, &HEX.replace('9', "8"));
    let store = people().await;
    let keyring = ApiKeys::new(store.clone()).digests(ring()).keyring();
    assert_eq!(import_one(&keyring, ImportedDigest::sha256(first)).await, (1, 0, Vec::new()));
    assert_eq!(import_one(&keyring, ImportedDigest::sha256(first)).await, there());
    assert_eq!(import_one(&keyring, text("test")).await, there(), "its text is the same");
    for other in [
        ImportedDigest::sha256(second),
        text("tests"),
        // It is unknown whether these digests belong to the same text, and the existing key has not been rehashed.
        ImportedDigest::sha512(HEX.repeat(2)),
        ImportedDigest::sanctum(1, HEX),
        ImportedDigest::hmac("elsewhere", HEX),
    ] {
        assert_eq!(import_one(&keyring, other).await, id_taken());
    }
    // Also within one file.
    let twice =
        [imported("twice", text("one")), imported("twice", text("two")), imported("twice", text("one"))];
    let report = keyring.import(twice).await.unwrap();
    assert_eq!((report.imported, report.already_there), (1, 1));
    assert_eq!(reasons(&report), [(1, "twice", "another key has that id".to_owned())]);
    let site = site(ApiKeys::new(store).digests(ring()).verifier().accept_foreign_keys());
    assert_eq!([status(&site, "one").await, status(&site, "two").await], [200, 401]);
}

/// A digest changes when a key is renewed, and the accepted digests may change between two imports.
#[tokio::test]
async fn c17_d2_a_key_that_was_renewed_since_is_the_same_key() {
    let rings = || Digests::peppered(pepper("new")).unwrap().accept_sha256();
    let text = |text: &str| ImportedDigest::plaintext(text);
    for trail in [true, false] {
        let store = people().await;
        let keyring = || {
            if trail {
                ApiKeys::new(store.clone()).digests(rings()).keyring()
            } else {
                ApiKeys::new(Counted::new(store.clone())).digests(rings()).keyring()
            }
        };
        assert_eq!(
            import_one(&keyring(), ImportedDigest::sha256(HEX)).await,
            (1, 0, Vec::new()),
            "trail: {trail:?}"
        );
        // So far, only the configured digests have changed: the text now has another digest than the stored key.
        assert_eq!(import_one(&keyring(), text("test")).await, there(), "trail: {trail:?}");
        assert_eq!(import_one(&keyring(), text("tests")).await, id_taken(), "trail: {trail:?}");
        let verifier = ApiKeys::new(store.clone()).digests(rings()).verifier().accept_foreign_keys();
        let site = site(verifier.renew_digests(store.clone()));
        assert_eq!(status(&site, "test").await, 200, "trail: {trail:?}");
        digested_by(&keyring(), &id("k"), "hmac:new").await;
        assert_eq!(import_one(&keyring(), ImportedDigest::sha256(HEX)).await, there(), "trail: {trail:?}");
        assert_eq!(import_one(&keyring(), text("test")).await, there(), "trail: {trail:?}");
        assert_eq!(import_one(&keyring(), text("tests")).await, id_taken(), "trail: {trail:?}");
        assert_eq!(status(&site, "test").await, 200, "trail: {trail:?}");
    }
}

#[tokio::test]
async fn c17_d2_texts_that_no_header_carries_are_refused() {
    let store = people().await;
    let keyring = Keyring::new(store.clone());
    for text in [
        " legacy",
        "legacy ",
        "leg acy",
        "legacy\n",
        "legacy\r\n",
        "leg\tacy",
        "\"legacy\"",
        "'legacy'",
        "`legacy`",
        "Bearer legacy",
        "bearer legacy",
        "\u{feff}legacy",
        "leg\u{200b}acy",
        "leg\u{a0}acy",
        "\u{201c}legacy\u{201d}",
        "leg\u{7f}acy",
        "leg\u{0}acy",
        "l\u{e9}gacy",
        "\u{2003}",
        "",
    ] {
        let report = keyring.import([imported("k", ImportedDigest::plaintext(text))]).await.unwrap();
        assert_eq!(reasons(&report), [(0, "k", TEXT.to_owned())], "{text:?}");
    }
    // Nor in the plaintext part of a digest.
    let start = ImportedDigest::sanctum(" 1", HEX);
    let report = keyring.import([imported("k", start)]).await.unwrap();
    assert_eq!(reasons(&report), [(0, "k", TEXT.to_owned())]);
    // All other characters are accepted, and the key works.
    let others: String = (0x21_u8..0x7f).map(char::from).filter(|letter| !"\"'`".contains(*letter)).collect();
    assert_eq!(import_one(&keyring, ImportedDigest::plaintext(&others)).await, (1, 0, Vec::new()));
    let site = site(Verifier::new(store).accept_foreign_keys());
    assert_eq!(send(&site, "header", &others).await.0, StatusCode::OK);
}

#[tokio::test]
async fn c17_d2_a_word_before_a_digest_must_be_its_own() {
    const NONE: &str = "this is not a digest of that kind in hexadecimal or base64";
    let long = HEX.repeat(2);
    for hash in [
        format!("sha512:{long}"),
        format!("md5:{HEX}"),
        format!("sha256:{long}"),
        format!("sha256$salt${HEX}"),
        format!("sha256::{HEX}"),
        format!("sha256{HEX}"),
        format!("\\x{}", &HEX[2..]),
        "\\xn4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=".to_owned(),
        format!("0x{HEX}"),
    ] {
        assert_eq!(
            refused([imported("a", ImportedDigest::sha256(&hash))]).await,
            [format!("a: {NONE}")],
            "{hash}"
        );
    }
    for hash in [&*format!("sha256:{HEX}"), &format!("sha512$salt${long}")] {
        assert_eq!(
            refused([imported("a", ImportedDigest::sha512(hash))]).await,
            [format!("a: {NONE}")],
            "{hash}"
        );
    }
    for hash in ["sha512$$", "sha512$", "sha512:", "\\x"].map(|word| format!("{word}{long}")) {
        assert!(refused([imported("a", ImportedDigest::sha512(&hash))]).await.is_empty(), "{hash}");
    }
}

/// A directory that gives one answer to the first call, and another to all later ones.
struct Changing(AccountStatus, AccountStatus, AtomicUsize);

#[async_trait]
impl Directory for Changing {
    async fn account_status(&self, _: &UserId, _: Option<&ProjectId>) -> Result<AccountStatus, StoreError> {
        Ok(if self.2.fetch_add(1, Ordering::SeqCst) == 0 { self.0 } else { self.1 })
    }
}

/// Removing the owner's access between the check and the change revokes the existing keys, but not these new ones.
#[tokio::test]
async fn c17_g_an_owner_who_loses_access_during_an_import_gets_no_key() {
    let owner = || AccountStatus::Active { role: Some(tower_api_key::Role::Owner) };
    let on_p1 = || NewKey::project_level(user("alice"), "x", ProjectId::new("p1").unwrap());
    let cases = [
        (AccountStatus::Disabled, alices("x"), true),
        (AccountStatus::Disabled, on_p1(), true),
        (AccountStatus::Active { role: None }, on_p1(), true),
        (AccountStatus::Active { role: None }, alices("x"), false),
        (owner(), on_p1(), false),
    ];
    for (then, new, refuses) in cases {
        let case = format!("{then:?}, {new:?}");
        let (registry, people) = (MemoryStore::new(), Changing(owner(), then, AtomicUsize::new(0)));
        let keyring = Keyring::new((registry.clone(), people));
        let key = ImportedKey::new(id("k"), new, ImportedDigest::plaintext("legacy"));
        let report = keyring.import([key]).await.unwrap();
        let record = registry.get(&id("k")).await.unwrap().unwrap();
        assert_eq!(record.revoked_at.is_some(), refuses, "{case}");
        assert_eq!(report.imported, usize::from(!refuses), "{case}");
        let told: Vec<_> = report.refused.iter().map(|key| key.reason.clone()).collect();
        let expected = if refuses { vec![tower_api_key::keyring::ImportRefusal::Owner] } else { Vec::new() };
        assert_eq!(told, expected, "{case}");
    }
}
