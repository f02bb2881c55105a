//! Fuzz tests: no line of a file, and no argument, makes this program panic (c17_b3).

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::sample::select;

use super::described;
use crate::keys;
use crate::lines::{of_csv, of_json, unknown};

const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\"\"",
    ":",
    ",",
    ";",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\u{feff}",
    "\0",
    " ",
    "null",
    "1",
    "-1e400",
    "\\u0000",
    "\\ud800",
    "é",
    "id",
    "owner",
    "name",
    "key",
    "sha256",
    "slow",
    "start",
    "pepper",
    "scopes",
    "metadata",
    "restrictions",
    "limits",
    "expires_at",
    "12/min",
    "2025-01-01T00:00:00Z",
    "{\"id\":\"old_1\",\"owner\":\"alice\",\"name\":\"CI\",\"key\":\"k\"}",
    "{\"id\":\"old_1\",\"owner\":\"alice\",\"name\":\"CI\",\"slow\":\"$2b$12$\",\"start\":\"k\",\"restrictions\":",
    "id,owner,name,key\n",
    "id,owner,name,scopes,metadata,restrictions\n",
    "old_1,alice,CI,k",
    "99999999999999999999d",
    "18446744073709551615s",
    "0d",
    "d",
    "min",
];

fn texts() -> impl Strategy<Value = String> {
    let pieces = vec(select(PIECES), 0..20).prop_map(|pieces| pieces.concat());
    prop_oneof![
        4 => pieces,
        1 => vec(any::<char>(), 0..60).prop_map(|text| text.into_iter().collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn c17_b3_no_line_of_an_import_panics(text in texts()) {
        for lines in [of_json(&text), of_csv(&text)] {
            for (_, members) in lines.into_iter().flatten() {
                drop(described(members));
            }
        }
        drop(unknown(text.split(',')));
    }

    #[test]
    fn c17_b3_no_argument_panics(text in texts()) {
        drop(keys::time(&text));
        drop(keys::limited(&text));
        drop(keys::restricted(&text));
        drop(keys::user(&text));
        drop(keys::environment(&text));
    }
}
