//! C7: what can be learned about keys by comparing, counting and timing.

use std::num::NonZero;

use serde_json::json;
use tower_api_key::scheme::ApiKeyHeader;
use tower_api_key::store::{KeyRegistry as _, MemoryStore, Terms};
use tower_api_key::{
    ApiKey, ApiKeyAuth, Credentials, KeyDigest, KeyId, KeyPolicy, KeyRecord, Timestamp, Verifier,
};

use super::kit::{Ask, Site};
use test_kit::{World, user};

/// Does not compile if the type has the trait, because `Without` is then ambiguous.
macro_rules! without {
    ($trait:path: $($type:ty),+) => {$(
        const _: fn() = || {
            trait Without<A> {
                fn it() {}
            }
            impl<T: ?Sized> Without<()> for T {}
            struct Has;
            impl<T: ?Sized + $trait> Without<Has> for T {}
            let _ = <$type as Without<_>>::it;
        };
    )+};
}

// C7-01: secrets and digests have no `==`, order, hash, `Display` or serialization.
without!(PartialEq: ApiKey, KeyDigest, Credentials<'static>, KeyRecord);
without!(std::hash::Hash: ApiKey, KeyDigest, Credentials<'static>);
without!(PartialOrd: ApiKey, KeyDigest, Credentials<'static>);
without!(std::fmt::Display: ApiKey, KeyDigest, Credentials<'static>, KeyRecord);
without!(serde::Serialize: ApiKey, KeyDigest, Credentials<'static>, KeyRecord);
without!(Clone: ApiKey, Credentials<'static>);
without!(AsRef<str>: ApiKey);
without!(std::ops::Deref: ApiKey);

#[test]
fn c7_01_digests_match_only_if_every_bit_does() {
    let digest = KeyDigest::of("a");
    assert!(digest.matches(&KeyDigest::of("a")));
    for bit in 0..256 {
        let mut bytes = *digest.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!digest.matches(&KeyDigest::from_bytes(bytes)), "C7-01: bit {bit}");
    }
}

/// Unknown, revoked and expired keys: the same path, number of calls and response, to the last byte. (A key of a
/// disabled owner needs one more call, to find that out.)
#[tokio::test]
async fn c7_02_refusals_of_wrong_keys_cannot_be_distinguished() {
    let world = World::new().await;
    let unknown = World::new().await;
    let long_gone = world
        .key("u_own", |key| {
            key.revoked_at = Some(Timestamp::from_secs(2));
            key.expires_at = Some(Timestamp::from_secs(3));
        })
        .await;
    let keys = [&unknown.own, &unknown.test, &world.revoked, &world.expired, &long_gone];
    for (site, ask) in [
        (Site::bearer(&world), None),
        (Site::header(&world), None),
        (Site::body(&world), Some("u_own")),
        (Site::body(&world), Some("nobody")),
        (Site::all(&world), None),
    ] {
        let mut first = None;
        for (at, key) in keys.iter().copied().chain([&world.stray]).enumerate() {
            let asked = match ask {
                Some(user) => Ask::json("/upload", json!({"apiKey": key.expose_secret(), "userId": user})),
                None => Ask::get("/sites").bearer(key),
            };
            let asked = if ask.is_none() && site.see("C7-02", &asked).await.verdict == "401/missing_api_key" {
                Ask::get("/sites").api_key(key).project("a b")
            } else {
                asked
            };
            let seen = site.expect("C7-02", &asked, "401/invalid_api_key").await;
            assert_eq!(seen.calls, if at == keys.len() { 2 } else { 1 }, "C7-02: {asked:?}");
            let shown = (format!("{:?}", seen.answer.headers), seen.answer.body);
            assert_eq!(&shown, first.get_or_insert_with(|| shown.clone()), "C7-02: {asked:?}");
        }
    }
}

/// Upper and lower case differ, in keys of any format.
#[tokio::test]
async fn c7_11_keys_that_differ_in_case_are_two_keys() {
    let world = World::new().await;
    for (at, text) in ["import-a1", "import-A1", "IMPORT-A1"].into_iter().enumerate() {
        let id = KeyId::new(format!("imported_{at}")).unwrap();
        let owner = ["u_own", "u_full", "u_ro"][at];
        let record = KeyRecord::new(id, KeyDigest::of(text), user(owner), Timestamp::from_secs(1));
        world
            .store
            .insert(
                record,
                &Terms::by(tower_api_key::Authority::System)
                    .policy(KeyPolicy::Multiple { max: NonZero::new(10).unwrap() }),
            )
            .await
            .unwrap();
    }
    let site = Site::new(&world, |store, routes| {
        let scheme = ApiKeyHeader::default().project_optional();
        routes.layer(ApiKeyAuth::with_verifier(Verifier::new(store).accept_foreign_keys(), scheme))
    });
    for (text, owner) in [("import-a1", "u_own"), ("import-A1", "u_full"), ("IMPORT-A1", "u_ro")] {
        let seen = site.expect("C7-11", &Ask::get("/sites").header("x-api-key", text), "200:h").await;
        assert_eq!(seen.user(), owner, "{text:?}, {owner:?}");
    }
    for text in ["Import-a1", "import-a", "import-a11", "import-a1 ", "import-\u{e1}1"] {
        site.expect("C7-11", &Ask::get("/sites").header("x-api-key", text), "401/invalid_api_key").await;
    }
    // A digest is always stored and compared as a whole.
    let short = MemoryStore::new();
    let mut bytes = *KeyDigest::of("x").as_bytes();
    bytes[31] ^= 1;
    let record = KeyRecord::new(
        KeyId::new("k").unwrap(),
        KeyDigest::from_bytes(bytes),
        user("u"),
        Timestamp::from_secs(1),
    );
    short
        .insert(
            record,
            &Terms::by(tower_api_key::Authority::System).policy(KeyPolicy::Single { grace: false }),
        )
        .await
        .unwrap();
    assert!(tower_api_key::store::KeyStore::find(&short, &KeyDigest::of("x")).await.unwrap().is_none());
}
