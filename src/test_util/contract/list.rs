//! Lists of keys.

use std::num::NonZero;
use std::sync::Arc;

use super::kit::{NOW, UniqueNames, assert_same, by_system, later, ok, owners, refused, under};
use crate::key::{Environment, KeyId, ProjectId, UserId};
use crate::record::{KeyLevel, KeyRecord};
use crate::restriction::{EndpointRestriction, Restrictions};
use crate::store::{KeyPolicy, KeyQuery, KeyRegistry, MAX_PAGE_LEN, MAX_SEARCHED, RegistryError, StoreError};

const MANY: KeyPolicy = KeyPolicy::Multiple { max: NonZero::new(100).unwrap() };

async fn ids<S: KeyRegistry>(store: &S, names: &UniqueNames, owner: &str, query: &KeyQuery) -> Vec<KeyId> {
    let keys = ok(store.list(&names.user(owner), query).await);
    keys.into_iter().map(|key| key.id).collect()
}

pub(super) async fn lists_are_ordered_and_paged<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    assert!(ids(&**store, &names, "u", &KeyQuery::default()).await.is_empty());
    // They are inserted neither in the order of times nor of ids. Among equal times, capital letters come before
    // small ones.
    let made = [("d", 3), ("b", 1), ("B", 1), ("z", 0), ("a", 3), ("C", 1)];
    for (name, age) in made {
        let key = KeyRecord { created_at: later(age), ..names.key(name, "u") };
        ok(store.insert(key, &under(MANY)).await);
    }
    ok(store.insert(names.key("other", "U"), &under(MANY)).await);
    let all: Vec<_> = ["z", "B", "C", "b", "a", "d"].map(|name| names.id(name)).into();
    assert_eq!(ids(&**store, &names, "u", &KeyQuery::default()).await, all, "oldest first, then by id");

    for limit in 1..=7 {
        let mut query = KeyQuery { limit, ..KeyQuery::default() };
        let mut paged = Vec::new();
        loop {
            let page = ids(&**store, &names, "u", &query).await;
            assert!(page.len() <= limit as usize, "a page is longer than was asked for");
            let Some(last) = page.last() else { break };
            query.after = Some(last.clone());
            paged.extend(page);
        }
        assert_eq!(paged, all, "pages of {limit} make the whole");
    }
    let nothing = KeyQuery { limit: 0, ..KeyQuery::default() };
    assert!(ids(&**store, &names, "u", &nothing).await.is_empty());
    let everything = KeyQuery { limit: u32::MAX, ..KeyQuery::default() };
    assert_eq!(ids(&**store, &names, "u", &everything).await, all);

    for after in ["other", "unknown"] {
        let query = KeyQuery { after: Some(names.id(after)), ..KeyQuery::default() };
        let foreign = store.list(&names.user("u"), &query).await;
        refused!(foreign, RegistryError::NotFound, "lists go on after keys of the same owner only");
    }
}

pub(super) async fn pages_end_early_and_say_whether_there_is_more<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    // Together they are twice as much as fits on a page.
    let entries: Vec<String> = (0..70).map(|number| format!("GET /{number}/{}", "x".repeat(90))).collect();
    let heavy = Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap());
    let count = MAX_PAGE_LEN * 2 / heavy.text_len();
    let mut all = Vec::new();
    for number in 0..count {
        let (environment, prefix) = match number % 2 {
            0 => (Environment::Live, "sk_live_"),
            _ => (Environment::Test, "sk_test_"),
        };
        let key = KeyRecord {
            environment,
            prefix: prefix.into(),
            restrictions: heavy.clone(),
            created_at: later(number as u64),
            ..names.key(&format!("heavy{number:03}"), "u")
        };
        all.push(key.id.clone());
        ok(store.insert(key, &under(MANY)).await);
    }
    for active_at in [None, Some(later(1000))] {
        for limit in [1, 7, 1000] {
            let mut query = KeyQuery { limit, active_at, ..KeyQuery::default() };
            let (mut paged, mut pages) = (Vec::new(), 0);
            loop {
                let page = ok(store.page(&names.user("u"), &query).await);
                let len: usize = page.keys.iter().map(|key| key.restrictions.text_len()).sum();
                assert!(len <= MAX_PAGE_LEN + heavy.text_len(), "a page is {len} bytes long");
                assert!(page.keys.len() <= limit as usize, "a page is longer than was asked for");
                pages += 1;
                paged.extend(page.keys.into_iter().map(|key| key.id));
                query.after = paged.last().cloned();
                if !page.more {
                    break;
                }
                assert!(pages <= count, "a page with more after it holds nothing");
            }
            assert_eq!(paged, all, "pages of {limit} make the whole");
            assert!(pages > 1, "so much is not one page");
        }
    }
    // A search continues after the last key of such a page, so that no long key is skipped.
    let search = KeyQuery::new().text("heavy").limit(1000);
    for query in [search.clone(), search.clone().newest_first(), search.active(later(1000))] {
        let (mut paged, mut pages, mut cursor) = (Vec::new(), 0, None);
        loop {
            let page = ok(store.page(&names.user("u"), &KeyQuery { after: cursor, ..query.clone() }).await);
            pages += 1;
            paged.extend(page.keys.into_iter().map(|key| key.id));
            cursor = page.last;
            if !page.more {
                break;
            }
            assert!(pages <= count, "a page with more after it holds nothing");
        }
        if query.newest_first {
            paged.reverse();
        }
        assert_eq!(paged, all, "the pages of a search make the whole: {query:?}");
        assert!(pages > 1, "so much is not one page");
    }
    let live = KeyQuery { environment: Some(Environment::Live), limit: 3, ..KeyQuery::default() };
    let page = ok(store.page(&names.user("u"), &live).await);
    assert!(
        page.more && page.keys.len() == 3 && page.keys.iter().all(|key| key.environment == Environment::Live)
    );
    let last = KeyQuery { after: all.last().cloned(), ..KeyQuery::default() };
    let page = ok(store.page(&names.user("u"), &last).await);
    assert!(page.keys.is_empty() && !page.more, "after the last key comes none");
}

pub(super) async fn lists_are_filtered<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let live = names.key("1-live", "u");
    let test = KeyRecord {
        environment: Environment::Test,
        prefix: "sk_test_".into(),
        expires_at: Some(later(10)),
        ..names.key("2-test", "u")
    };
    let revoked = names.key("3-revoked", "u");
    let last = names.key("4-last", "u");
    for key in [&live, &test, &revoked, &last] {
        ok(store.insert(key.clone(), &under(MANY)).await);
    }
    ok(store.revoke(&revoked.id, NOW, &by_system()).await);

    let of = |environment, active_at| KeyQuery { environment, active_at, ..KeyQuery::default() };
    let expected = [
        (of(None, None), vec![&live, &test, &revoked, &last]),
        (of(Some(Environment::Test), None), vec![&test]),
        (of(Some(Environment::Live), None), vec![&live, &revoked, &last]),
        (of(None, Some(NOW)), vec![&live, &test, &last]),
        (of(None, Some(later(10))), vec![&live, &last]),
        (of(Some(Environment::Live), Some(NOW)), vec![&live, &last]),
        // A key that is skipped takes no place on a page, and a key that has ended since is still a valid cursor.
        (KeyQuery { limit: 2, after: Some(live.id.clone()), ..of(None, Some(NOW)) }, vec![&test, &last]),
        (KeyQuery { after: Some(revoked.id.clone()), ..of(None, Some(NOW)) }, vec![&last]),
        (
            KeyQuery { after: Some(test.id.clone()), ..of(Some(Environment::Live), None) },
            vec![&revoked, &last],
        ),
    ];
    for (query, keys) in expected {
        let ids: Vec<_> = keys.iter().map(|key| key.id.clone()).collect();
        assert_eq!(self::ids(&**store, &names, "u", &query).await, ids, "{query:?}");
    }
    let listed = ok(store.list(&names.user("u"), &KeyQuery::default()).await);
    for (listed, key) in listed.iter().zip([&live, &test]) {
        assert_same(listed, key);
    }
}

/// A list of active keys is the list of all keys without those that have ended, in the same order.
pub(super) async fn lists_of_active_keys_are_parts_of_lists_of_all<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    for n in 0..24 {
        let test = n % 3 == 0;
        let key = KeyRecord {
            environment: if test { Environment::Test } else { Environment::Live },
            prefix: if test { "sk_test_" } else { "sk_live_" }.into(),
            // Several have the same age, and they expire in another order.
            created_at: later(n % 7),
            expires_at: (n % 4 != 0).then(|| later(20 + n * 5 % 24)),
            ..names.key(&format!("{n}"), "u")
        };
        ok(store.insert(key.clone(), &under(MANY)).await);
        match n % 5 {
            0 => drop(ok(store.revoke(&key.id, NOW, &by_system()).await)),
            1 if !test => {
                let fresh = names.fresh(&format!("{n}-new"), later(7));
                drop(ok(store.replace(&key.id, fresh, later(n * 2), &by_system()).await));
            }
            _ => {}
        }
    }
    let all = ok(store.list(&names.user("u"), &KeyQuery::default()).await);
    assert!(all.is_sorted_by_key(|key| (key.created_at, key.id.clone())));
    for environment in [None, Some(Environment::Live), Some(Environment::Test)] {
        for now in [None, Some(NOW), Some(later(20)), Some(later(31)), Some(later(99))] {
            let whole = KeyQuery { environment, active_at: now, ..KeyQuery::default() };
            let expected: Vec<_> =
                all.iter().filter(|key| whole.selects(key)).map(|key| key.id.clone()).collect();
            for limit in [1, 3, 100] {
                let mut query = KeyQuery { limit, ..whole.clone() };
                let mut paged = Vec::new();
                while let page = ids(&**store, &names, "u", &query).await
                    && let Some(last) = page.last()
                {
                    query.after = Some(last.clone());
                    paged.extend(page);
                }
                assert_eq!(paged, expected, "{whole:?} in pages of {limit}");
            }
            // The policy counts the same keys that lists return.
            if let (Some(environment), Some(now)) = (environment, now) {
                let Some(max) = NonZero::new(u32::try_from(expected.len()).unwrap()) else { continue };
                let more = KeyRecord {
                    environment,
                    prefix: format!("sk_{}_", environment.as_str()),
                    created_at: now,
                    ..names.key("more", "u")
                };
                let full = store.insert(more, &under(KeyPolicy::Multiple { max })).await;
                refused!(full, RegistryError::TooManyKeys, "a policy counts every active key");
            }
        }
    }
}

/// Every kind of query, in both orders, from every cursor in both directions.
pub(super) async fn lists_go_both_ways<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let project = |name: &str| ProjectId::new(name).unwrap_or_else(|_| unreachable!("{name}"));
    let mut all = Vec::new();
    for n in 0..12_u64 {
        let (environment, prefix) =
            if n % 3 == 0 { (Environment::Test, "sk_test_") } else { (Environment::Live, "sk_live_") };
        let key = KeyRecord {
            environment,
            prefix: prefix.into(),
            name: match n % 3 {
                0 => "\u{c9}t\u{e9} one",
                1 => "other",
                _ => "ANY one",
            }
            .into(),
            last4: format!("A{n:03}"),
            level: if n % 4 == 0 { KeyLevel::Project(project("contract-p")) } else { KeyLevel::User },
            // Three of each age.
            created_at: later(n / 3),
            expires_at: (n % 4 == 1).then(|| later(20)),
            ..names.key(&format!("{n:02}"), "u")
        };
        // Under the terms of the system, it is not checked whether the project exists.
        ok(store.insert(key.clone(), &under(MANY)).await);
        if n % 5 == 2 {
            ok(store.revoke(&key.id, later(5), &by_system()).await);
        }
        all.push(key.id);
    }
    ok(store.insert(names.key("other", "v"), &under(MANY)).await);
    let user = names.user("u");
    let all = ok(store.list(&user, &KeyQuery::new()).await);
    assert_eq!(all.len(), 12);

    let whole = || KeyQuery::new().limit(1000);
    let mut queries = vec![
        (whole(), 12),
        (whole().active(later(19)), 10),
        (whole().active(later(20)), 7),
        (whole().ended(later(19)), 2),
        (whole().ended(later(20)), 5),
        (whole().environment(Environment::Test), 4),
        (whole().project(project("contract-p")), 3),
        (whole().project(project("contract-q")), 0),
        (whole().text("ONE"), 8),
        (whole().text("\u{c9}T\u{c9}"), 4),
        (whole().text("a01"), 2),
        (whole().text("T-P"), 3),
        (whole().text(names.id("07").as_str()), 1),
        (whole().text("%"), 0),
        (whole().text("one").ended(later(20)), 3),
        (whole().text("one").active(later(20)).environment(Environment::Live), 2),
    ];
    let newest: Vec<_> =
        queries.iter().map(|(query, count)| (query.clone().newest_first(), *count)).collect();
    queries.extend(newest);
    for (query, count) in queries {
        let mut expected: Vec<_> = all.iter().filter(|key| query.selects(key)).map(|key| &key.id).collect();
        assert_eq!(expected.len(), count, "{query:?}");
        if query.newest_first {
            expected.reverse();
        }
        let listed = ok(store.list(&user, &query).await);
        assert_eq!(listed.iter().map(|key| &key.id).collect::<Vec<_>>(), expected, "{query:?}");
        for limit in [1, 2, 5, 12] {
            let (mut forth, mut page) =
                (Vec::new(), ok(store.page(&user, &query.clone().limit(limit)).await));
            loop {
                assert!(page.keys.len() <= limit as usize, "a page is longer than was asked for");
                assert!(!page.more || page.keys.len() == limit as usize, "a page ends before it is full");
                let last = page.last.clone();
                let more = page.more;
                forth.extend(page.keys.into_iter().map(|key| key.id));
                assert!(forth.len() <= 12, "a page holds what another has held: {query:?}");
                let Some(last) = last.filter(|_| more) else { break };
                page = ok(store.page(&user, &query.clone().limit(limit).after(last)).await);
            }
            assert_eq!(forth.iter().collect::<Vec<_>>(), expected, "{query:?} in pages of {limit}");
            // Go back from the last key of the list.
            let Some(end) = (if query.newest_first { all.first() } else { all.last() }) else { continue };
            let (mut back, mut from) = (Vec::new(), end.id.clone());
            loop {
                let page = ok(store.page(&user, &query.clone().limit(limit).before(from)).await);
                back.splice(0..0, page.keys.into_iter().map(|key| key.id));
                assert!(back.len() <= 12, "a page holds what another has held: {query:?}");
                let Some(first) = page.first.filter(|_| page.more) else { break };
                from = first;
            }
            let before_end: Vec<_> = expected.iter().copied().filter(|id| **id != end.id).collect();
            assert_eq!(back.iter().collect::<Vec<_>>(), before_end, "{query:?} back in pages of {limit}");
        }
        for (most, more) in [(1000, false), (12, false), (3, count > 3), (0, count > 0)] {
            let counted = ok(store.count(&user, &query, most).await);
            assert_eq!(
                (counted.keys, counted.more),
                ((count as u32).min(most), more),
                "{query:?} up to {most}"
            );
        }
    }
    for foreign in ["other", "unknown"] {
        let before = store.page(&user, &KeyQuery::new().before(names.id(foreign))).await;
        refused!(before, RegistryError::NotFound, "pages are before keys of the same owner only");
    }
}

/// A page of a search looks at a limited number of keys. A registry that looks at more is correct too, as long as
/// the next page continues where the last one ended.
pub(super) async fn searches_look_at_so_many_keys<S: KeyRegistry>(store: &Arc<S>) {
    let names = UniqueNames::new();
    let count = MAX_SEARCHED + 5;
    let keys: Vec<_> = (0..count)
        .map(|n| KeyRecord {
            created_at: later(n as u64),
            revoked_at: Some(later(n as u64)),
            name: if n == 0 { "the first" } else { "another" }.into(),
            ..names.key(&format!("{n}"), "u")
        })
        .collect();
    for part in keys.chunks(500) {
        for imported in ok(store.insert_all(part.to_vec(), &by_system()).await) {
            ok(imported);
        }
    }
    let user = names.user("u");
    let query = KeyQuery::new().text("the first").newest_first();
    let (mut found, mut pages, mut cursor) = (Vec::new(), 0, None);
    loop {
        let mut query = query.clone();
        query.after = cursor;
        let page = ok(store.page(&user, &query).await);
        found.extend(page.keys.into_iter().map(|key| key.id));
        pages += 1;
        cursor = page.last;
        if !page.more {
            break;
        }
        assert!(pages < 3, "pages do not go on from where the one before has ended");
    }
    assert_eq!(found, [names.id("0")]);
    assert_eq!(ok(store.count(&user, &KeyQuery::new(), 1000).await).keys, 1000);
    let ended = ok(store.count(&user, &KeyQuery::new().ended(NOW), 1000).await);
    assert_eq!((ended.keys, ended.more), (1000, true));
}

pub(super) async fn owners_are_listed_once_and_in_pages<S: KeyRegistry>(store: &Arc<S>) {
    if matches!(owners(store, None, 1).await, Err(StoreError::NotKept)) {
        return;
    }
    let names = UniqueNames::new();
    // Capital letters come before small ones. One owner has two keys, and the key of another has ended.
    for (key, owner) in [("1", "own-b"), ("2", "own-B"), ("3", "own-a"), ("4", "own-b"), ("5", "own-c")] {
        let key = KeyRecord { revoked_at: (key == "5").then_some(NOW), ..names.key(key, owner) };
        ok(store.insert(key, &under(MANY)).await);
    }
    let all: Vec<_> = ["own-B", "own-a", "own-b", "own-c"].map(|name| names.user(name)).into();
    for limit in [1, 2, 3, 4, 1000, u32::MAX] {
        let (mut after, mut listed) = (Some(UserId::new("idp|own-").unwrap()), Vec::new());
        loop {
            let page = ok(owners(store, after.as_ref(), limit).await);
            assert!(page.len() <= limit.min(1000) as usize, "a page is longer than was asked for");
            assert!(after.is_none_or(|after| page.first().is_none_or(|first| *first > after)));
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            listed.extend(page);
        }
        assert!(listed.is_sorted_by(|one, next| one < next), "owners are not in order, or are there twice");
        listed.retain(|owner| all.contains(owner));
        assert_eq!(listed, all, "pages of {limit}");
    }
    assert!(ok(owners(store, None, 0).await).is_empty());
    assert!(!ok(owners(store, None, 1).await).is_empty());
}
