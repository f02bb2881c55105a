//! Many keys of one owner: issuing, listing, and the removal of the owner.

use std::num::NonZeroU32;
use std::time::Instant;

use tower_api_key::{KeyPolicy, KeyQuery, Keyring, NewKey, Timestamp};

use crate::Result;
use crate::neighbour::Neighbour;
use crate::table::{Table, median};
use crate::world::{ACCOUNT, Store, World};

const ASKED: usize = 50;

pub(crate) async fn measure<S: Store>(world: &World<S>, size: usize, table: &mut Table) -> Result<()> {
    let busy = world.add_member("busy").await?;
    let neighbour = Neighbour::new(world, 2_000).await?;
    world.import("key", std::slice::from_ref(&busy), size).await?;

    let twice = u32::try_from(size)?.saturating_mul(2);
    for (row, max) in [
        ("issue, no maximum", u32::MAX),
        ("issue, maximum of 100: refused", 100),
        ("issue, maximum of twice as many", twice),
    ] {
        let max = NonZeroU32::new(max).ok_or("no maximum")?;
        let keyring = Keyring::new(world.store.clone()).policy(KeyPolicy::Multiple { max });
        let issued = median(ASKED, async || {
            let issued = keyring.issue(NewKey::user_level(busy.clone(), "one more")).await;
            if issued.is_ok() == (max.get() == 100) {
                return Err("the policy was not kept".into());
            }
            Ok(())
        });
        table.put(row, size, issued.await?);
    }

    let now = Timestamp::from_secs(1_800_000_000);
    let half = world.keyring.list(&busy, &KeyQuery::new().limit(u32::try_from(size / 2)?)).await?;
    let middle = half.last().ok_or("no key")?.id.clone();
    drop(half);
    for (row, query) in [
        ("a page of 100", KeyQuery::new()),
        ("a page from the middle", KeyQuery::new().after(middle.clone())),
        ("a page, newest first", KeyQuery::new().newest_first()),
        ("a page of active keys", KeyQuery::new().active(now)),
        (
            "a page of active keys from the middle, newest first",
            KeyQuery::new().active(now).newest_first().after(middle),
        ),
    ] {
        let page = median(ASKED, async || {
            let page = world.keyring.page(&busy, &query).await?;
            if page.keys.len() == 100 { Ok(()) } else { Err("the page is not full".into()) }
        });
        table.put(row, size, page.await?);
    }

    let (watch, began) = (neighbour.watch().await?, Instant::now());
    world.store.remove_member(ACCOUNT, &busy, now).await?;
    let took = began.elapsed();
    let mut seen = watch.end().await?;
    table.put("remove_member, a key", size, took / u32::try_from(size)?);
    table.put("remove_member: a revocation beside, p99", size, seen.p99());
    table.put("remove_member: a revocation beside, longest", size, seen.longest());
    let left = world.keyring.page(&busy, &KeyQuery::new().active(now)).await?;
    if left.keys.is_empty() { Ok(()) } else { Err("keys are left of who was removed".into()) }
}
