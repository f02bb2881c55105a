use std::net::IpAddr;
use std::num::NonZeroU32;

use governor::clock::{Clock as _, FakeRelativeClock};
use governor::{Quota, RateLimiter};

use http::header::{HeaderMap, RETRY_AFTER};

use super::*;
use crate::clock::Timestamp;
use crate::key::KeyDigest;

fn limits(text: &str) -> Limits {
    text.parse().unwrap()
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A random number generator that returns the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[test]
fn limits_are_parsed_strictly() {
    for (text, name, count, window) in [
        ("12/min", "12/min", 12, 60),
        ("200/30d", "200/30d", 200, 2_592_000),
        ("1/s", "1/s", 1, 1),
        ("5/10s", "5/10s", 5, 10),
        ("1000000000/366d", "1000000000/366d", 1_000_000_000, 31_622_400),
        ("burst-1=3/2h", "burst-1", 3, 7200),
    ] {
        let limit: Limit = text.parse().unwrap();
        assert_eq!((limit.name(), limit.count(), limit.window()), (name, count, secs(window)));
        assert_eq!(limit.to_string(), text);
    }
    for text in [
        "",
        "12",
        "12/",
        "/min",
        "12/m",
        "12/minute",
        "12/Min",
        "12/ min",
        "12 /min",
        " 12/min",
        "12/min ",
        "12/0min",
        "12/1min",
        "12/02min",
        "12/-1d",
        "12/+2d",
        "0/min",
        "012/min",
        "-1/min",
        "+1/min",
        "1.5/min",
        "1e3/min",
        "1_000/min",
        "1000000001/min",
        "99999999999/min",
        "1/367d",
        "1/99999999999d",
        "1/4294967295d",
        "12/min/s",
        "=12/min",
        "a b=12/min",
        "a\"=12/min",
        "a=b=12/min",
        "12=min",
        "１2/min",
        "12/min\0",
        "\r\n=12/min",
        "12/ms",
        "12/2w",
        "12/d30",
    ] {
        assert!(text.parse::<Limit>().is_err(), "{text:?}");
    }
    let long = format!("{}=1/min", "a".repeat(33));
    assert!(long.parse::<Limit>().is_err());
    let error = "12/m".parse::<Limit>().unwrap_err().to_string();
    assert_eq!(
        error,
        r#""12/m" is not a rate limit: after the / stands a period in s, min, h or d, such as min or 30d"#
    );
}

#[test]
fn several_limits_go_together() {
    for text in ["12/min", "12/min,200/30d", "a=12/min,b=1/s,200/30d"] {
        assert_eq!(limits(text).to_string(), text);
    }
    for text in [
        "",
        ",",
        "12/min,",
        ",12/min",
        "12/min;200/30d",
        "12/min,12/min",
        "12/min,7/min",
        "12/min,7/60s",
        "a=1/s,a=2/h",
    ] {
        assert!(text.parse::<Limits>().is_err(), "{text:?}");
    }
    let nine: Vec<_> = (1..=9).map(|n| format!("1/{}s", n + 1)).collect();
    assert!(nine.join(",").parse::<Limits>().is_err());
    assert!(nine[..8].join(",").parse::<Limits>().is_ok());
}

#[test]
fn a_bucket_holds_its_count_and_fills_evenly() {
    let (limiter, limits) = (Limiter::new(10), limits("12/min"));
    for remaining in (0..12).rev() {
        let tally = limiter.take(&1, &limits, at(0));
        assert!(tally.is_allowed());
        assert_eq!(tally.remaining(), remaining);
        assert_eq!(tally.reset(), secs(5 * (12 - u64::from(remaining))));
    }
    for _ in 0..100 {
        let tally = limiter.take(&1, &limits, at(0));
        assert_eq!((tally.retry_after(), tally.remaining(), tally.reset()), (Some(secs(5)), 0, secs(60)));
    }
    let early = Timestamp::from_micros(4_999_999);
    assert_eq!(limiter.take(&1, &limits, early).retry_after(), Some(Duration::from_micros(1)));
    assert!(limiter.take(&1, &limits, at(5)).is_allowed());
    assert!(!limiter.take(&1, &limits, at(5)).is_allowed());
    // Another key has its own count.
    assert_eq!(limiter.take(&2, &limits, at(5)).remaining(), 11);
    // An hour later the bucket is full, and not more than full.
    assert_eq!(limiter.take(&1, &limits, at(3600)).remaining(), 11);
}

#[test]
fn who_waits_as_long_as_told_is_let_in() {
    let mut random = Random(7);
    for text in ["7/3s", "12/min", "999999937/h", "3/366d", "1/s", "1000000000/s"] {
        let (limiter, limits, mut now) = (Limiter::new(10), limits(text), 0);
        for _ in 0..2_000 {
            let tally = limiter.take(&(), &limits, Timestamp::from_micros(now));
            if let Some(wait) = tally.retry_after() {
                now += i64::try_from(wait.as_micros()).unwrap();
                let tally = limiter.take(&(), &limits, Timestamp::from_micros(now));
                assert!(tally.is_allowed(), "{text} after {wait:?}");
            }
            now += i64::try_from(random.below(1_000)).unwrap();
        }
    }
}

#[test]
fn a_refused_request_consumes_nothing_elsewhere() {
    let (limiter, limits) = (Limiter::new(10), limits("minute=2/min,month=200/30d"));
    for _ in 0..2 {
        assert!(limiter.take(&1, &limits, at(0)).is_allowed());
    }
    for _ in 0..1_000 {
        let tally = limiter.take(&1, &limits, at(0));
        assert_eq!(tally.limit().name(), "minute");
        assert!(!tally.is_allowed());
    }
    // Two of the 200 are used.
    let month: Limits = "month=200/30d".parse().unwrap();
    assert_eq!(limiter.take(&1, &month, at(0)).remaining(), 197);
}

#[test]
fn the_most_restrictive_limit_is_told() {
    let (limiter, limits) = (Limiter::new(10), limits("s=5/s,h=3/h"));
    for _ in 0..3 {
        assert_eq!(limiter.take(&1, &limits, at(0)).limit().name(), "h");
    }
    let refused = limiter.take(&1, &limits, at(0));
    assert_eq!((refused.limit().name(), refused.retry_after()), ("h", Some(secs(1200))));

    // Both refuse: the longer wait counts, whichever comes first.
    for text in ["s=1/s,h=1/h", "h=1/h,s=1/s"] {
        let (limiter, limits) = (Limiter::new(10), text.parse::<Limits>().unwrap());
        assert!(limiter.take(&1, &limits, at(0)).is_allowed());
        assert_eq!(limiter.take(&1, &limits, at(0)).retry_after(), Some(secs(3600)), "{text}");
    }
}

#[test]
fn changed_limits_keep_what_was_spent() {
    let limiter = Limiter::new(10);
    for _ in 0..10 {
        assert!(limiter.take(&1, &limits("10/min"), at(0)).is_allowed());
    }
    assert!(!limiter.take(&1, &limits("20/min,5/d"), at(0)).is_allowed());
    assert!(!limiter.take(&1, &limits("5/min"), at(0)).is_allowed());
    assert!(limiter.take(&1, &limits("5/d"), at(0)).is_allowed());
}

#[test]
fn the_headers() {
    let (limiter, limits) = (Limiter::new(10), limits("burst=2/min,200/30d"));
    let stamped = |tally: RateLimitStatus| {
        let mut headers = HeaderMap::new();
        tally.stamp(&mut headers);
        headers
    };
    let headers = stamped(limiter.take(&1, &limits, Timestamp::from_micros(1)));
    assert_eq!(headers["ratelimit-policy"], r#""burst";q=2;w=60"#);
    assert_eq!(headers["ratelimit"], r#""burst";r=1;t=30"#);
    assert!(!headers.contains_key(RETRY_AFTER));
    assert!(limiter.take(&1, &limits, at(1)).is_allowed());
    let headers = stamped(limiter.take(&1, &limits, at(1)));
    assert_eq!(headers["ratelimit"], r#""burst";r=0;t=60"#);
    // 29.000001 seconds, rounded up.
    assert_eq!(headers[RETRY_AFTER], "30");
    let unnamed = stamped(limiter.take(&2, &"200/30d".parse().unwrap(), at(0)));
    assert_eq!(unnamed["ratelimit-policy"], r#""200/30d";q=200;w=2592000"#);
    assert_eq!(retry_after(Duration::ZERO), "1");
    assert_eq!(retry_after(Duration::from_nanos(1)), "1");
    assert_eq!(retry_after(Duration::MAX), u64::MAX.to_string().as_str());
}

#[test]
fn clocks_may_jump_and_end() {
    let (limiter, limits) = (Limiter::new(10), limits("2/min"));
    for _ in 0..2 {
        assert!(limiter.take(&1, &limits, at(1_000_000)).is_allowed());
    }
    // After the clock went back by days, the bucket is at most empty.
    assert_eq!(limiter.take(&1, &limits, at(0)).retry_after(), Some(secs(30)));
    for edge in [i64::MIN, i64::MIN + 1, -1, 0, i64::MAX - 1, i64::MAX] {
        let now = Timestamp::from_micros(edge);
        let fresh = Limiter::new(10);
        assert!(fresh.take(&1, &limits, now).is_allowed());
        assert!(fresh.take(&1, &limits, now).is_allowed());
        assert_eq!(fresh.take(&1, &limits, now).retry_after(), Some(secs(30)));
        assert!(fresh.take(&1, &limits, Timestamp::from_micros(i64::MAX)).remaining() < 2);
    }
}

/// A bucket gives the same results as another implementation, at random moments.
#[test]
fn governor_agrees() {
    let mut random = Random(42);
    for round in 0..60 {
        // Whole microseconds and nanoseconds for one, so that neither has to round.
        let (count, window) =
            [(1, 1), (2, 1), (5, 10), (12, 60), (60, 60), (200, 2_592_000), (1000, 1), (900, 3600)]
                [round % 8];
        let limits: Limits =
            format!("{count}/{}s", if window == 1 { String::new() } else { window.to_string() })
                .parse()
                .unwrap();
        let clock = FakeRelativeClock::default();
        let one = Duration::from_micros(window * 1_000_000 / count);
        let count = NonZeroU32::new(u32::try_from(count).unwrap()).unwrap();
        let quota = Quota::with_period(one).unwrap().allow_burst(count);
        let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
        let (limiter, mut now) = (Limiter::new(1), 1_700_000_000_000_000_i64);
        let start = clock.now();
        let (mut allowed, mut refused) = (0, 0);
        for _ in 0..5_000 {
            // Requests come faster than the bucket refills, with a pause now and then.
            let step = match random.below(2048) {
                0..1024 => 0,
                1024..2047 => random.below(u64::try_from(one.as_micros()).unwrap()),
                _ => random.below(window * 250_000 + 1),
            };
            clock.advance(Duration::from_micros(step));
            now += i64::try_from(step).unwrap();
            let tally = limiter.take(&(), &limits, Timestamp::from_micros(now));
            match oracle.check() {
                Ok(()) => {
                    assert!(tally.is_allowed(), "{limits} at {now}");
                    allowed += 1;
                }
                Err(not_until) => {
                    let wait = not_until.wait_time_from(clock.now());
                    assert_eq!(tally.retry_after(), Some(wait), "{limits} at {now}");
                    refused += 1;
                }
            }
        }
        assert!(clock.now() > start && allowed > 0 && refused > 0, "{limits}: {allowed} and {refused}");
    }
}

/// The documented bound: at most twice the count in any window.
#[test]
fn no_window_holds_more_than_twice_the_count() {
    let (limiter, limits, mut random) = (Limiter::new(1), limits("10/min"), Random(3));
    let (mut now, mut allowed) = (0_i64, Vec::new());
    for _ in 0..20_000 {
        now += i64::try_from(random.below(3_000_000)).unwrap();
        if limiter.take(&(), &limits, Timestamp::from_micros(now)).is_allowed() {
            allowed.push(now);
        }
    }
    for (index, start) in allowed.iter().enumerate() {
        let within = allowed[index..].iter().take_while(|at| *at - start < 60_000_000).count();
        assert!(within <= 20, "{within} from {start}");
    }
    assert!(allowed.len() as i64 <= 10 + now / 6_000_000 + 1);
}

#[test]
fn c7_09_failures_are_braked_by_address() {
    let throttle = Throttle::new("10/min".parse().unwrap());
    let client = |text: &str| -> IpAddr { text.parse().unwrap() };
    let attacker = client("192.0.2.7");
    let mut calls = 0;
    // Of a million attempts in a minute, ten are allowed at once, and ten more as the bucket refills.
    for micros in (0..60_000_000).step_by(60) {
        let now = Timestamp::from_micros(micros);
        if throttle.retry_after(attacker, now).is_none() {
            calls += 1;
            throttle.failed(attacker, now);
        }
    }
    assert!((19..=20).contains(&calls), "{calls}");
    assert_eq!(throttle.retry_after(client("192.0.2.8"), at(60)), None);
    assert!(throttle.retry_after(client("::ffff:192.0.2.7"), at(59)).is_some());
}

#[test]
fn c7_09_an_ipv6_client_is_a_64() {
    let throttle = Throttle::new("1/min".parse().unwrap());
    let client = |text: &str| -> IpAddr { text.parse().unwrap() };
    throttle.failed(client("2001:db8:0:1::1"), at(0));
    assert!(throttle.retry_after(client("2001:db8:0:1:ffff::2"), at(0)).is_some());
    assert!(throttle.retry_after(client("2001:db8:0:2::1"), at(0)).is_none());
    assert!(throttle.retry_after(client("0.0.0.1"), at(0)).is_none());
}

#[test]
fn c7_09_attempts_that_were_under_way_count_all_the_same() {
    let throttle = Throttle::new("10/min".parse().unwrap());
    let attacker = IpAddr::from([192, 0, 2, 7]);
    for _ in 0..50 {
        throttle.failed(attacker, at(0));
    }
    // Fifty failures at ten a minute: ten were in the bucket, so the client waits until 41 more have been refilled.
    assert_eq!(throttle.retry_after(attacker, at(0)), Some(secs(41 * 6)));
    for _ in 0..100_000 {
        throttle.failed(attacker, at(0));
    }
    // No client is locked out for ever.
    assert_eq!(throttle.retry_after(attacker, at(0)), Some(secs(600 + 6)));
    // A clock that jumps back does not change that.
    assert_eq!(throttle.retry_after(attacker, at(-1_000_000)), Some(secs(600 + 6)));
    assert_eq!(throttle.retry_after(attacker, at(606)), None);
}

#[test]
fn c8_01_random_addresses_do_not_grow_memory() {
    let throttle = Throttle::with_capacity("10/min".parse().unwrap(), 1_000);
    let (mut random, persistent) = (Random(5), IpAddr::from([192, 0, 2, 7]));
    for _ in 0..60 {
        throttle.failed(persistent, at(0));
    }
    for attempt in 0..200_000_i64 {
        let address =
            IpAddr::from([0x2001, 0xdb8, 0, random.below(65_536) as u16, 0, 0, 0, random.below(9) as u16]);
        throttle.failed(address, Timestamp::from_micros(attempt * 500));
    }
    assert!(throttle.len() <= 1_016, "{}", throttle.len());
    // The client that failed most is still remembered.
    assert!(throttle.retry_after(persistent, at(100)).is_some());
    // Much later, one eviction removes all expired entries of a shard.
    for last in 0..=255 {
        throttle.failed(IpAddr::from([198, 51, 100, last]), at(100_000));
    }
    assert!(throttle.len() <= 256, "{}", throttle.len());
}

#[test]
fn buckets_that_are_full_take_no_room() {
    let limiter = Limiter::new(100);
    for key in 0..100_000_u32 {
        assert!(limiter.take(&key, &limits("1/s"), at(key.into())).is_allowed());
    }
    assert!(limiter.len() <= 112, "{}", limiter.len());
    let throttle = Throttle::with_capacity("1/s".parse().unwrap(), 100);
    // A client is not remembered for a query alone.
    assert_eq!(throttle.retry_after(IpAddr::from([192, 0, 2, 7]), at(0)), None);
    assert!(throttle.is_empty());
}

#[test]
fn many_threads_take_no_more_than_there_is() {
    let (limiter, limits) = (Limiter::new(100), limits("1000/h,7777/d"));
    let allowed: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| (0..1_000).filter(|_| limiter.take(&1, &limits, at(0)).is_allowed()).count())
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(allowed, 1_000);
}

#[test]
fn c17_d6_several_limits_may_stand_with_spaces_after_their_commas() {
    for text in ["12/min, 200/30d", "12/min ,200/30d", " 12/min,\t200/30d ", "12/min,200/30d"] {
        assert_eq!(limits(text).to_string(), "12/min,200/30d", "{text:?}");
    }
    assert_eq!(limits(" 12/min ").to_string(), "12/min");
    for (text, about) in [
        ("12/min,", "before and after a comma"),
        (",12/min", "before and after a comma"),
        ("12/min,,200/30d", "before and after a comma"),
        ("12/min, ", "before and after a comma"),
        (",", "before and after a comma"),
        ("12/min; 200/30d", "after the / stands a period"),
        ("12/min\n200/30d", "after the / stands a period"),
    ] {
        let error = text.parse::<Limits>().unwrap_err().to_string();
        assert!(error.contains(about), "{text:?}: {error}");
    }
    let error = "12/min, 200/30d".parse::<Limit>().unwrap_err().to_string();
    assert!(error.contains("a comma stands between limits"), "{error}");
}

/// Counts for how many requests of these families are still remembered after a hundred thousand other keys were
/// used.
fn remembered(limiter: &Limiter<(u8, u32)>, kind: u8, count: u32, limits: &Limits, now: Timestamp) -> u32 {
    let refused = |family: &u32| !limiter.peek(&(kind, *family), limits, now).is_allowed();
    u32::try_from((0..count).filter(refused).count()).unwrap()
}

fn spend_all(limiter: &Limiter<(u8, u32)>, family: (u8, u32), limits: &Limits, now: Timestamp) {
    while limiter.take(&family, limits, now).is_allowed() {}
}

#[test]
fn c17_b8_families_with_a_limit_of_a_year_push_nobody_out_who_has_spent_all() {
    const ROOM: usize = 4096;
    let limiter = Limiter::new(ROOM);
    let (hourly, daily, scarce) = (limits("100/h"), limits("1/d"), limits("3/min,200/30d"));
    for family in 0..1_000 {
        spend_all(&limiter, (0, family), &hourly, at(0));
        spend_all(&limiter, (1, family), &daily, at(0));
    }
    for family in 0..500 {
        for second in (0..20).rev() {
            spend_all(&limiter, (2, family), &scarce, at(-60 * second));
        }
    }
    // Within ten seconds, each of a hundred thousand keys is used once.
    let yearly = limits("1/366d");
    for family in 0..100_000 {
        let now = Timestamp::from_micros(i64::from(family) * 100);
        assert!(limiter.take(&(9, family), &yearly, now).is_allowed());
    }
    assert!(limiter.len() <= ROOM, "{}", limiter.len());
    let now = at(10);
    assert_eq!(remembered(&limiter, 0, 1_000, &hourly, now), 1_000, "100/h");
    assert_eq!(remembered(&limiter, 1, 1_000, &daily, now), 1_000, "1/d");
    assert_eq!(remembered(&limiter, 2, 500, &scarce, now), 500, "3/min,200/30d");
}

#[test]
fn c17_b8_a_little_of_a_large_limit_weighs_less_than_all_of_a_small_one() {
    let limiter = Limiter::new(1_000);
    let (small, large) = (limits("1/d"), limits("1000000/366d"));
    for family in 0..500 {
        spend_all(&limiter, (0, family), &small, at(0));
    }
    for family in 0..10_000 {
        for _ in 0..20 {
            assert!(limiter.take(&(9, family), &large, at(1)).is_allowed());
        }
    }
    assert_eq!(remembered(&limiter, 0, 500, &small, at(2)), 500);
}

#[test]
fn c17_b8_revoked_families_are_forgotten_first() {
    let limiter = Limiter::new(1_000);
    let (few, many) = (limits("5/h"), limits("10/366d"));
    for family in 0..500 {
        spend_all(&limiter, (0, family), &few, at(0));
    }
    // Keys are made, used up and revoked, again and again.
    for family in 0..10_000 {
        spend_all(&limiter, (9, family), &many, at(1));
        limiter.end(&(9, family));
    }
    assert_eq!(remembered(&limiter, 0, 500, &few, at(2)), 500);
    // A family that is used again is no longer marked as ended.
    let limiter = Limiter::new(1_000);
    for family in 0..1_000 {
        spend_all(&limiter, (0, family), &many, at(0));
        limiter.end(&(0, family));
        if family < 500 {
            assert!(!limiter.take(&(0, family), &many, at(0)).is_allowed());
        }
    }
    for family in 0..400 {
        assert!(limiter.take(&(9, family), &few, at(0)).is_allowed());
    }
    assert_eq!(remembered(&limiter, 0, 500, &many, at(1)), 500);
    // Ending an unknown family adds no entry.
    limiter.end(&(7, 0));
    assert!(limiter.take(&(7, 0), &few, at(0)).is_allowed());
}

/// Changing the limits of a key again and again does not fill the memory: if there are too many buckets, those that
/// are not among the current limits are removed.
#[test]
fn c17_g_a_family_whose_limits_change_has_a_few_buckets() {
    let limiter = Limiter::new(10);
    let one = |window: u32| limits(&format!("1/{window}s"));
    // The maximum number of buckets.
    for window in 1001..=1032 {
        assert!(limiter.take(&"family", &one(window), at(0)).is_allowed());
    }
    assert!((1001..=1032).all(|window| !limiter.peek(&"family", &one(window), at(1)).is_allowed()));
    // With one more, only the buckets of the last request remain.
    let last = limits("1/2000s,1/2001s");
    assert!(limiter.take(&"family", &last, at(1)).is_allowed());
    assert!((1001..=1032).all(|window| limiter.peek(&"family", &one(window), at(1)).is_allowed()));
    assert!(!limiter.peek(&"family", &limits("1/2000s"), at(1)).is_allowed());
    assert!(!limiter.peek(&"family", &limits("1/2001s"), at(1)).is_allowed());
}

fn wrong(number: u64) -> KeyDigest {
    KeyDigest::of(&format!("wrong {number}"))
}

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A program that still uses an old key, at any pace and under any limit of repeats.
#[test]
fn c17_a5_a_key_that_comes_again_spends_the_budget_of_look_ups_once() {
    for (repeats, pause) in [("10/min", 100), ("100/s", 5), ("100/s", 50), ("1/s", 30_000), ("1/d", 500)] {
        let throttle =
            KeyThrottle::default().repeats(repeats.parse().unwrap()).lookups("2/366d".parse().unwrap());
        let mut looked_up = 0;
        for attempt in 0..5_000 {
            let now = Timestamp::from_micros(attempt * pause * 1_000);
            if throttle.throttled(HERE, &wrong(1), now).is_none() {
                throttle.refused(HERE, &wrong(1), now);
                looked_up += 1;
            }
            assert_eq!(throttle.throttled(HERE, &wrong(2), now), None, "{repeats}, {pause}, {attempt}");
        }
        assert!(looked_up > 0, "{repeats}");
        // One of the two attempts is always left.
        let now = Timestamp::from_micros(5_000 * pause * 1_000);
        throttle.refused(HERE, &wrong(2), now);
        assert!(matches!(throttle.throttled(HERE, &wrong(3), now), Some(Throttled::Client(_))), "{repeats}");
    }
}

#[test]
fn c17_a5_what_is_remembered_of_wrong_and_accepted_keys_is_bounded() {
    let throttle = KeyThrottle::default();
    // One wrong key is sent again and again, and others once each, from ever more addresses.
    for attempt in 0..20 {
        throttle.refused(HERE, &wrong(0), at(attempt / 10));
    }
    for number in 1..200_000_u32 {
        let client = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
        let now = Timestamp::from_micros(2_000_000 + i64::from(number) * 100);
        throttle.refused(client, &wrong(number.into()), now);
        throttle.accepted(&wrong(number.into()), now);
    }
    let (dead, clients, accepted) = throttle.remembered();
    assert!(
        dead <= MOST_WRONG_KEYS && clients <= MOST_WRONG_KEYS && accepted <= MOST_WRONG_KEYS,
        "{:?}",
        throttle.remembered()
    );
    assert!(dead > MOST_WRONG_KEYS / 2 && accepted > MOST_WRONG_KEYS / 2, "{:?}", throttle.remembered());
    let now = at(23);
    assert!(matches!(throttle.throttled(HERE, &wrong(0), now), Some(Throttled::Key(_))), "it repeats most");
    // The latest were accepted last.
    assert!(throttle.was_accepted(&wrong(199_999), now) && !throttle.was_accepted(&wrong(1), now));
    // Hash tables have a power of two of slots, of which seven eighths are used.
    let places = MOST_WRONG_KEYS * 2;
    let bytes = places * (KeyThrottle::SIZES.iter().sum::<usize>() + KeyThrottle::SIZES.len());
    assert!(bytes < 27_000_000, "{bytes}");
}

const MOST_WRONG_KEYS: usize = 65_536;

/// If the clock jumps back, an accepted key is not remembered for longer than documented.
#[test]
fn c17_a5_a_clock_that_jumps_back_prolongs_nothing() {
    let throttle = KeyThrottle::default();
    throttle.accepted(&wrong(1), at(1_000_000));
    assert!(throttle.was_accepted(&wrong(1), at(1_000_000)));
    assert!(!throttle.was_accepted(&wrong(1), at(0)));
    for _ in 0..100 {
        throttle.refused(HERE, &wrong(2), at(1_000_000));
    }
    // The bucket is at most empty and one bucket in debt.
    let wait = throttle.throttled(HERE, &wrong(2), at(0)).unwrap().wait();
    assert!(wait <= secs(126), "{wait:?}");
}
