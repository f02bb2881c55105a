//! C3-29 and the header readers with random input, compared with the oracle. `fuzz/` does the same with a fuzzer.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::oracle::{BODIES, LINES, Rig};

thread_local! {
    static RIG: Rig = Rig::default();
}

/// Names with a meaning, and similar ones.
const NAMES: [&str; 19] = [
    "apiKey",
    "userId",
    "projectId",
    "apiKey",
    "userId",
    "projectId",
    "a",
    "b",
    "ApiKey",
    "api_key",
    "user-id",
    r"\u0061piKey",
    "api\u{212a}ey",
    "",
    "apiKe",
    "projectIds",
    r"x\n",
    "$serde_json::private::Number",
    "$serde_json::private::RawValue",
];

fn scalar() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z0-9_.:@-]{1,8}".prop_map(|text| format!("\"{text}\"")),
        1 => any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => any::<f64>().prop_map(|number| format!("{number:e}")),
        1 => prop::sample::select(&["true", "false", "null", "1e999", "-0", "01", "\"\\ud800\"", "\"\\u0041\"", "[]", "{}"])
            .prop_map(str::to_owned),
    ]
}

fn value() -> impl Strategy<Value = String> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            object(inner, 0..4),
        ]
    })
}

fn object(
    value: impl Strategy<Value = String>,
    size: std::ops::Range<usize>,
) -> impl Strategy<Value = String> {
    vec((prop::sample::select(&NAMES), value), size).prop_map(|members| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

/// Bodies that are mostly valid: the three members somewhere among others.
fn body() -> impl Strategy<Value = String> {
    let text = || "[a-z0-9]{1,6}".prop_map(|text| format!("\"{text}\""));
    let three = (text(), text(), text(), vec((prop::sample::select(&NAMES[6..]), value()), 0..3))
        .prop_perturb(|(key, user, project, more), mut rng| {
            let mut members = vec![
                ("apiKey".to_owned(), key),
                ("userId".to_owned(), user),
                ("projectId".to_owned(), project),
            ];
            members.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
            for at in (1..members.len()).rev() {
                members.swap(at, (rng.next_u32() as usize) % (at + 1));
            }
            let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", members.join(","))
        });
    prop_oneof![3 => three, 1 => object(value(), 0..6), 1 => value()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c3_29_generated_bodies(text in body(), cuts in vec(any::<u8>(), 0..20)) {
        RIG.with(|rig| rig.json_body(text.as_bytes(), &cuts));
    }

    #[test]
    fn c3_29_mutated_bodies(
        text in body(),
        edits in vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
        cuts in vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = text.into_bytes();
        for (at, byte, what) in edits {
            if bytes.is_empty() {
                bytes.push(byte);
            }
            let at = at.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
        }
        RIG.with(|rig| rig.json_body(&bytes, &cuts));
    }

    #[test]
    fn c3_29_arbitrary_bytes(bytes in vec(any::<u8>(), 0..200), cuts in vec(any::<u8>(), 0..20)) {
        RIG.with(|rig| rig.json_body(&bytes, &cuts));
    }

    #[test]
    fn c2_arbitrary_header_lines(lines in vec((prop::sample::select(b"akpo".as_slice()), vec(any::<u8>(), 0..40)), 0..5)) {
        let mut input = Vec::new();
        for (name, value) in lines {
            input.push(name);
            input.extend(value.into_iter().filter(|byte| *byte != b'\n'));
            input.push(b'\n');
        }
        RIG.with(|rig| rig.headers(&input));
    }

    #[test]
    fn c2_header_lines_of_pieces(pieces in vec(prop::sample::select(&PIECES), 0..24)) {
        RIG.with(|rig| rig.headers(&pieces.concat()));
    }
}

/// Parts of header lines.
const PIECES: [&[u8]; 28] = [
    b"\na",
    b"\nk",
    b"\np",
    b"\nx",
    b"\naBearer ",
    b"\nk\x01",
    b"\npp1",
    b"Bearer",
    b"bearer ",
    b" ",
    b"\t",
    b"\x01",
    b"\x01",
    b"\x02",
    b",",
    b"=",
    b"==",
    b"\xff",
    b"\xc3\xaf",
    b"x",
    b"p1",
    b"Basic ",
    b"sk_live_",
    b"_",
    b"\"",
    b"\0",
    b"\x7f",
    b"..",
];

#[test]
fn every_seed_through_the_oracle() {
    RIG.with(|rig| {
        let accepted = |body: &&&[u8]| rig.json_body(body, &[7, 0, 3]);
        assert!((6..20).contains(&BODIES.iter().filter(accepted).count()), "the seeds show nothing");
        let accepted = |lines: &&&[u8]| rig.headers(lines);
        assert!((4..16).contains(&LINES.iter().filter(accepted).count()), "the seeds show nothing");
    });
}

/// A random number generator that needs only a seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap() % end.max(1)
    }

    fn one_of<'a>(&mut self, all: &[&'a [u8]]) -> &'a [u8] {
        all[self.below(all.len())]
    }
}

/// Changes an input in a few places, by bytes and by parts of other inputs.
fn mutate(dice: &mut Dice, mut input: Vec<u8>, pieces: &[&[u8]]) -> Vec<u8> {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        match dice.below(8) {
            0 if at < input.len() => input[at] = u8::try_from(dice.below(256)).unwrap(),
            1 if at < input.len() => input[at] ^= 1 << dice.below(8),
            2 if at < input.len() => drop(input.remove(at)),
            3 => input.insert(at, u8::try_from(dice.below(256)).unwrap()),
            4 => drop(input.splice(at..at, dice.one_of(pieces).iter().copied())),
            5 => {
                let end = (at + dice.below(12)).min(input.len());
                let copy = input[at..end].to_vec();
                let to = dice.below(input.len() + 1);
                drop(input.splice(to..to, copy));
            }
            6 => {
                let end = (at + dice.below(12)).min(input.len());
                drop(input.drain(at..end));
            }
            _ => {
                let other = dice.one_of(pieces);
                let from = dice.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }
    input.truncate(4096);
    input
}

/// Runs for `ROWS_FUZZ_SECONDS`, or for a minute. The seed is printed; `ROWS_FUZZ_SEED` repeats the run.
fn go_on(name: &str, seeds: &[&[u8]], pieces: &[&[u8]], run: impl Fn(&Rig, &mut Dice, &[u8]) -> bool) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let time = Duration::from_secs(number("ROWS_FUZZ_SECONDS").unwrap_or(60));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = number("ROWS_FUZZ_SEED").unwrap_or(u64::from(now.subsec_nanos()) ^ now.as_secs()).max(1);
    println!("{name}: ROWS_FUZZ_SEED={seed}");
    let (mut dice, rig, start) = (Dice(seed), Rig::default(), Instant::now());
    let mut pool: Vec<Vec<u8>> = seeds.iter().map(|seed| seed.to_vec()).collect();
    let (mut inputs, mut accepted) = (0_u64, 0_u64);
    while start.elapsed() < time {
        let parent = pool[dice.below(pool.len())].clone();
        let input = mutate(&mut dice, parent, pieces);
        inputs += 1;
        if run(&rig, &mut dice, &input) {
            accepted += 1;
            // Accepted inputs are good starting points.
            if pool.len() < 2000 {
                pool.push(input);
            } else if dice.below(10) == 0 {
                let at = seeds.len() + dice.below(pool.len() - seeds.len());
                pool[at] = input;
            }
        }
    }
    println!("{name}: {inputs} inputs, {accepted} of them accepted, in {} s", time.as_secs());
    // Enough inputs were accepted, so the test did more than produce refusals.
    assert!(accepted * 1000 > inputs, "{name}: {accepted} of {inputs} were accepted");
}

#[test]
#[ignore = "takes a minute"]
fn fuzz_for_a_minute_json_bodies() {
    let mut pieces: Vec<&[u8]> = BODIES.to_vec();
    pieces.extend(NAMES.iter().map(|name| name.as_bytes()));
    pieces.extend([
        &b"\""[..],
        b",",
        b":",
        b"{",
        b"}",
        b"[",
        b"]",
        b"\\u0000",
        b"\\",
        b"null",
        b"\"a\":1,",
        b"\\ud83d",
        b"\\udd11",
        b"\\n",
        b"\x1f",
        b"-0.5e9",
        b"e99",
        b"1e999",
        b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
        b"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
        b"\xef\xbb\xbf",
        b"\xff",
    ]);
    go_on("json_body", &BODIES, &pieces, |rig, dice, input| {
        let cuts: Vec<u8> = (0..dice.below(6)).map(|_| u8::try_from(dice.below(40)).unwrap()).collect();
        rig.json_body(input, &cuts)
    });
}

#[test]
#[ignore = "takes a minute"]
fn fuzz_for_a_minute_header_lines() {
    let pieces = [&PIECES[..], &LINES[..]].concat();
    go_on("headers", &LINES, &pieces, |rig, _, input| rig.headers(input));
}
