//! The list of keys when there are many.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use tower_api_key::restriction::Restrictions;
use tower_api_key::store::{KeyRegistry, Terms};
use tower_api_key::{KeyDigest, KeyId, KeyPolicy};
use tower_api_key_sqlite::SqliteStore;

use super::*;
use tower_api_key::ApiKeys;

/// This many keys of one owner, one second apart, the oldest first.
fn keys(owner: &str, count: usize, of: impl Fn(usize, &mut KeyRecord)) -> Vec<KeyRecord> {
    let key = |n: usize| {
        let mut digest = [7; 32];
        digest[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let (id, digest) = (KeyId::new(format!("many_{n:05}")).unwrap(), KeyDigest::from_bytes(digest));
        let at = Timestamp::from_secs(NOW - 100_000 + n as i64);
        let mut key = KeyRecord::new(id, digest, test_kit::user(owner), at);
        key.name = format!("number {n:05}");
        key.restrictions = Restrictions::none();
        of(n, &mut key);
        key
    };
    (0..count).map(key).collect()
}

fn revoked(key: &mut KeyRecord) {
    key.revoked_at = Some(Timestamp::from_secs(NOW - 1));
}

async fn import(registry: &impl KeyRegistry, keys: Vec<KeyRecord>) {
    let any = KeyPolicy::Multiple { max: NonZeroU32::MAX };
    let system = Terms::by(tower_api_key::Authority::System).policy(any);
    for imported in registry.insert_all(keys, &system).await.unwrap() {
        imported.unwrap();
    }
}

/// The names on a page, in order.
fn names(page: &str) -> Vec<String> {
    let page = html::parse(page);
    let named =
        page.windows(2).filter(|pair| pair[0].attributes.get("class").is_some_and(|class| class == "name"));
    named.map(|pair| pair[1].text.clone()).collect()
}

/// The target of a link on the page, if it exists.
fn link(page: &str, label: &str) -> Option<String> {
    let elements = html::parse(page);
    let link = elements.iter().find(|element| element.name == "a" && element.text == label)?;
    Some(link.attributes["href"].strip_prefix(AT).unwrap().to_owned())
}

#[tokio::test]
async fn c17_e1_one_key_that_works_is_seen_before_520_that_have_ended() {
    for works in [0, 260, 520] {
        let site = Site::new().await;
        let of = |n: usize, key: &mut KeyRecord| {
            if n != works {
                revoked(key)
            }
        };
        import(&site.world.store, keys("u_newcomer", 521, of)).await;
        let page = site.page("u_newcomer.1", "").await;
        assert_eq!(names(&page), [format!("number {works:05}")], "works: {works:?}");
        assert!(
            page.contains("1 key. Times are UTC.") && link(&page, "More keys").is_none(),
            "works: {works:?}"
        );
        let ended = site.page("u_newcomer.1", "?state=ended").await;
        assert!(ended.contains("200 of 520 keys."), "the ended ones are counted");
        assert_eq!(names(&ended).len(), 200, "works: {works:?}");
        assert!(
            site.page("u_newcomer.1", "?state=all").await.contains("200 of 521 keys."),
            "works: {works:?}"
        );
        assert!(site.page("u_newcomer.1", "?q=NOTHING").await.contains("No key matches"), "works: {works:?}");
    }
    // If no key works, the page says so, and not that there are no keys.
    let site = Site::new().await;
    import(&site.world.store, keys("u_newcomer", 520, |_, key| revoked(key))).await;
    assert!(site.page("u_newcomer.1", "").await.contains("No key works at the moment"));
}

/// A site on a SQLite file with this many keys of `u_many`.
async fn many(count: usize, of: impl Fn(usize, &mut KeyRecord)) -> (tempfile::TempDir, Site) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path().join("keys.db")).await.unwrap();
    for part in keys("u_many", count, of).chunks(2_000) {
        import(&store, part.to_vec()).await;
    }
    let clock = ManualClock::new(Timestamp::from_secs(NOW));
    let keyring = ApiKeys::new(store.clone()).clock(clock.clone()).keyring();
    let app = Router::new().nest(AT, portal(keyring, store).router());
    (directory, Site { world: World::new().await, clock, app })
}

#[tokio::test]
async fn c17_e1_of_20_000_keys_the_newest_is_on_top_and_pages_go_both_ways() {
    let (_directory, site) = many(20_000, |n, key| {
        if n % 2 == 0 {
            revoked(key);
        }
        if n % 50 == 0 {
            let _ = write!(key.name, " & odd=\u{e9}");
        }
    })
    .await;
    let first = site.page("u_many.1", "").await;
    assert_eq!(names(&first)[..2], ["number 19999", "number 19997"]);
    assert!(first.contains("200 of 1,000+ keys."));
    assert!(link(&first, "Newer keys").is_none());
    let second = site.page("u_many.1", &link(&first, "More keys").unwrap()).await;
    assert_eq!(names(&second)[0], "number 19599");
    assert_eq!(names(&site.page("u_many.1", "?state=all").await)[..2], ["number 19999", "number 19998"]);

    // The search stays the same when paging in both directions.
    let mut page = site.page("u_many.1", "?state=all&environment=live&q=%26%20ODD%3D%C3%89").await;
    let (mut seen, mut pages) = (names(&page), vec![page.clone()]);
    while let Some(more) = link(&page, "More keys") {
        page = site.page("u_many.1", &more).await;
        assert!(page.contains("value=\"&#38; ODD=\u{c9}\""), "the search is kept");
        seen.extend(names(&page));
        pages.push(page.clone());
        assert!(pages.len() < 20, "there is an end to pages");
    }
    assert_eq!(seen.len(), 400);
    assert!(seen.is_sorted_by(|one, next| one > next) && seen[399].starts_with("number 00000"));
    while let Some(newer) = link(&page, "Newer keys") {
        page = site.page("u_many.1", &newer).await;
        pages.pop();
        assert_eq!(names(&page), names(pages.last().unwrap()), "back is the page before");
    }
    assert_eq!(pages.len(), 1, "the way back leads to the newest");
}

#[tokio::test]
async fn c17_e1_a_search_that_finds_nothing_reads_2_000_keys_a_page() {
    let (_directory, site) = many(5_000, |_, key| revoked(key)).await;
    let mut path = "?state=all&q=nothing+is+called+so".to_owned();
    let mut cursors = Vec::new();
    let last = loop {
        let page = site.page("u_many.1", &path).await;
        assert!(names(&page).is_empty());
        let Some(more) = link(&page, "More keys") else { break page };
        assert!(page.contains("No key matches so far") && page.contains("among the older ones"));
        cursors.push(more.rsplit_once("after=").unwrap().1.replace("%5F", "_"));
        path = more;
    };
    assert_eq!(cursors, ["many_03000", "many_01000"]);
    let back = site.page("u_many.1", &link(&last, "Newer keys").unwrap()).await;
    assert!(back.contains("No key matches"));
}
