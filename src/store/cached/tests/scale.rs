//! The cost of the cache, from a thousand keys to ten million:
//!
//! ```text
//! SCALE_KEYS=10000000 SCALE_RANDOM=10000000 \
//!     cargo test --release --lib cached::tests::scale -- --ignored --nocapture --test-threads 1
//! ```
//!
//! `SCALE_KEYS` is the largest number of keys (ten million need 8 GB), `SCALE_RANDOM` the number of random keys
//! that are tried.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Dice;
use crate::clock::{SystemClock, Timestamp};
use crate::key::{KeyDigest, KeyId, UserId};
use crate::record::KeyRecord;
use crate::restriction::{EndpointRestriction, Restrictions};
use crate::store::cached::faults::Faults;
use crate::store::cached::lease::Lease;
use crate::store::cached::versioned::{CacheLimits, VersionedMap};

type Keys = VersionedMap<[u8; 32], Option<Arc<KeyRecord>>>;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The resident memory of this process in bytes; 0 without `/proc`.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn cache(keys: u64) -> (Keys, Lease) {
    cache_of(keys, usize::MAX)
}

fn cache_of(keys: u64, bytes: usize) -> (Keys, Lease) {
    let room = CacheLimits {
        open: usize::try_from(keys).unwrap(),
        closed: 8192,
        bytes,
        open_for: Duration::from_secs(36_000),
        closed_for: Duration::from_secs(5),
    };
    let lease = Lease::new(Arc::new(SystemClock), Faults::default());
    lease.begin();
    lease.grant(lease.now().plus(Duration::from_secs(36_000)));
    (VersionedMap::new(room, Faults::default()), lease)
}

/// A digest that is cheap to compute, and distributed like a real one.
fn digest(number: u64) -> KeyDigest {
    let mut dice = Dice::new(number);
    let mut bytes = [0; 32];
    for word in bytes.as_chunks_mut().0 {
        *word = dice.next().to_le_bytes();
    }
    KeyDigest::from_bytes(bytes)
}

/// A typical record: ids and a name of the usual length.
fn record(number: u64) -> KeyRecord {
    let (id, owner) = (format!("key_{number:022}"), format!("user_{number:08}"));
    let (id, owner) = (KeyId::new(id).unwrap(), UserId::new(owner).unwrap());
    let mut record = KeyRecord::new(id, digest(number), owner, Timestamp::from_secs(1));
    record.name = "production".to_owned();
    record.prefix = "sk_live_".to_owned();
    record.last4 = "abcd".to_owned();
    record
}

/// A record with the maximum of restrictions.
fn heavy(number: u64) -> KeyRecord {
    let entries: Vec<String> = (0..100).map(|entry| format!("GET /{entry:02}/{}", "x".repeat(60))).collect();
    let mut record = record(number);
    record.restrictions = Restrictions::none().endpoints(EndpointRestriction::allow(entries).unwrap());
    record
}

#[test]
fn c17_b2_heavy_keys_take_no_more_room_than_was_given() {
    const BYTES: usize = 1 << 20;
    let (facts, lease) = cache_of(1000, BYTES);
    block_on(async {
        for number in 0..500 {
            let made = async || Ok(Some(Arc::new(heavy(number))));
            facts.get(&lease, &digest(number), made).await.unwrap();
            assert!(facts.bytes() <= BYTES, "{} bytes after {number}", facts.bytes());
            assert!(facts.warm(&lease, &digest(number)).is_some(), "the newest is there");
        }
        // Each entry takes at least the bytes of its text.
        assert!(facts.len() < BYTES / 7000, "{} keys", facts.len());
        assert!(facts.len() > BYTES / 20_000, "{} keys", facts.len());
        facts.forget(&digest(499));
        let before = facts.bytes();
        for number in 0..500 {
            facts.forget(&digest(number));
        }
        assert!(before > 0 && facts.bytes() == 0 && facts.len() == 0, "{} bytes are left", facts.bytes());
    });
}

/// Other tests must not run at the same time, because this measures the memory of the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

#[test]
#[ignore = "measures"]
fn growth() {
    let most = setting("SCALE_KEYS", 100_000);
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let mut keys = 1000;
        while keys <= most {
            let (facts, lease) = cache(keys + keys / 2);
            let before = resident();
            for number in 0..keys {
                facts
                    .get(&lease, &digest(number), async || Ok(Some(Arc::new(record(number)))))
                    .await
                    .unwrap();
            }
            let each = resident().saturating_sub(before) / keys;
            let mut dice = Dice::new(1);
            let asked: Vec<KeyDigest> = (0..200_000).map(|_| digest(dice.below(keys))).collect();
            let hot: Vec<KeyDigest> = (0..200_000).map(|_| digest(dice.below(100))).collect();
            let mut times = Vec::new();
            for questions in [&asked, &hot] {
                let began = Instant::now();
                let found = questions.iter().filter(|digest| facts.warm(&lease, *digest).is_some()).count();
                times.push(began.elapsed() / 200_000);
                assert_eq!(found, questions.len());
            }
            println!(
                "{keys} keys: {each} bytes each with their records, {:?} warm, {:?} hot",
                times[0], times[1]
            );
            keys *= 10;
        }
        let (facts, lease) = cache(2000);
        let before = resident();
        for number in 0..1000 {
            facts.get(&lease, &digest(number), async || Ok(Some(Arc::new(heavy(number))))).await.unwrap();
        }
        let each = resident().saturating_sub(before) / 1000;
        println!("heavy keys: {each} bytes each, and {} by our own count", facts.bytes() / 1000);
        println!("a record without what it points to: {} bytes", size_of::<KeyRecord>());
    });
}

#[test]
#[ignore = "measures"]
fn c8_01_random_keys_take_no_room() {
    let tried = setting("SCALE_RANDOM", 300_000);
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    block_on(async {
        let (facts, lease) = cache(1000);
        for number in 0..1000 {
            facts.get(&lease, &digest(number), async || Ok(Some(Arc::new(record(number))))).await.unwrap();
        }
        let (mut asked, mut warm) = (0_u64, 0_u64);
        let mut before = 0;
        for number in 0..tried {
            facts.get(&lease, &digest(u64::MAX - number), async || Ok(None)).await.unwrap();
            if number % 10 == 0 {
                asked += 1;
                warm += u64::from(facts.warm(&lease, &digest(number / 10 % 1000)).is_some());
            }
            if number == 100_000 {
                before = resident();
            }
        }
        let grown = resident().saturating_sub(before) / 1024;
        println!(
            "{tried} random keys: {warm} of {asked} hot look-ups warm, {grown} KiB more than after 100000"
        );
        assert!(warm * 100 > asked * 99 && grown < 16 * 1024);
    });
}
