//! Keys of many owners: an import, the same import again, counting, and the audit log.

use std::time::Instant;

use tower_api_key::KeyId;

use crate::Result;
use crate::neighbour::{Neighbour, cpu, memory};
use crate::table::{Table, median};
use crate::world::{Store, World};

const OWNERS: usize = 1_000;
const ASKED: usize = 50;

pub(crate) async fn measure<S: Store>(world: &World<S>, size: usize, table: &mut Table) -> Result<()> {
    let mut owners = Vec::new();
    for number in 0..OWNERS.min(size / 10).max(1) {
        owners.push(world.add_member(&format!("user{number}")).await?);
    }
    let neighbour = Neighbour::new(world, size).await?;
    for row in ["import", "import again"] {
        let (before, watch, began, work) = (memory(), neighbour.watch().await?, Instant::now(), cpu());
        let there = world.import("key", &owners, size).await?;
        let took = began.elapsed();
        let mut seen = watch.end().await?;
        if there != if row == "import" { 0 } else { size } {
            return Err(format!("{there} keys were there already").into());
        }
        table.put(&format!("{row}, a key"), size, took / u32::try_from(size)?);
        table.put(&format!("{row}: a revocation beside, p99"), size, seen.p99());
        table.put(&format!("{row}: a revocation beside, longest"), size, seen.longest());
        table.note(&format!(
            "{row}, {size}: {:.0} keys/s, {:.0} us of CPU time of this process per key, {} MB more memory",
            size as f64 / took.as_secs_f64(),
            (cpu() - work) * 1e6 / size as f64,
            seen.memory.saturating_sub(before) / 1024
        ));
    }
    let counted = median(5, async || {
        world.keyring.count_by_digest().await?;
        Ok(())
    });
    table.put("count_by_digest, all keys", size, counted.await?);

    let ids: Vec<KeyId> = world
        .keyring
        .list(owners.first().ok_or("nobody")?, &Default::default())
        .await?
        .into_iter()
        .map(|key| key.id)
        .collect();
    let mut next = ids.iter().cycle();
    let history = median(ASKED, async || {
        world.keyring.history(next.next().ok_or("nothing")?, 50).await?;
        Ok(())
    });
    table.put("history of one key", size, history.await?);
    Ok(())
}
