//! Measures which costs grow with the number of keys: each row with 1,000, 10,000 and 100,000 keys, or the sizes that are
//! given, and the factor from one size to the next.
//!
//! ```sh
//! cargo bench -p benches --bench growth                  # an SQLite file, with up to 100,000 keys
//! cargo bench -p benches --bench growth -- --postgres    # TOWER_API_KEY_POSTGRES, or the server at 127.0.0.1:5432
//! cargo bench -p benches --bench growth -- --row many-owners --size 1000000
//! ```
//!
//! The rows are `many-owners` and `one-owner`; `--row` and `--size` may be repeated. Times are per key or per question, so the slope is 1 where nothing grows. Each size has a file or a schema of its own.
//! "A revocation beside" is by another user, every few milliseconds meanwhile.

mod many_owners;
mod neighbour;
mod one_owner;
mod table;
mod world;

use std::error::Error;

use table::Table;
use tower_api_key_postgres::PostgresOptions;
use tower_api_key_sqlite::SqliteStore;
use world::{Schema, World};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The groups of rows. Each has its own store.
const ROWS: [&str; 2] = ["many-owners", "one-owner"];

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let values = |name: &str| -> Vec<&str> {
        args.windows(2).filter(|pair| pair[0] == name).map(|pair| &*pair[1]).collect()
    };
    let rows = values("--row");
    let mut sizes =
        values("--size").iter().map(|size| size.parse()).collect::<std::result::Result<Vec<usize>, _>>()?;
    if sizes.is_empty() {
        sizes.extend(SIZES);
    }
    sizes.sort_unstable();
    let postgres = args.iter().any(|arg| arg == "--postgres");
    tokio::runtime::Runtime::new()?.block_on(async move {
        let mut table = Table::new(if postgres { "PostgreSQL" } else { "SQLite" }, &sizes, &rows);
        for group in ROWS {
            for size in &sizes {
                if table.wants_any_of(group) {
                    measure(postgres, group, *size, &mut table).await?;
                }
            }
        }
        print!("{table}");
        Ok(())
    })
}

async fn measure(postgres: bool, group: &str, size: usize, table: &mut Table) -> Result<()> {
    if postgres {
        let schema = Schema::new()?;
        let store = PostgresOptions::new(&schema.server)?.schema(&schema.name)?.connect().await?;
        let measured = of(group, &World::new(store.clone()).await?, size, table).await;
        store.close().await?;
        schema.end().await?;
        return measured;
    }
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("keys.db")).await?;
    of(group, &World::new(store).await?, size, table).await
}

async fn of<S: world::Store>(group: &str, world: &World<S>, size: usize, table: &mut Table) -> Result<()> {
    match group {
        "many-owners" => many_owners::measure(world, size, table).await,
        _ => one_owner::measure(world, size, table).await,
    }
}
