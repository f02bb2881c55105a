//! The scanner of JSON bodies against the strict reader, which is the judge.
//!
//! ```text
//! cargo +nightly fuzz run json_scan
//! ```

#![no_main]
#![allow(dead_code, reason = "the layer uses the rest")]

#[path = "../../src/config_error.rs"]
mod config_error;
#[path = "../../src/scheme/json_strict.rs"]
mod json_strict;
#[path = "../../src/scheme/json_scan.rs"]
mod json_scan;

use json_strict::{Fields, MemberNames};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static NAMES: MemberNames = MemberNames::documented();
}

fuzz_target!(|text: &[u8]| {
    NAMES.with(|names| {
        let strict = json_strict::read(text, names).ok();
        let scanned = json_scan::read(text, names).ok();
        assert_eq!(scanned.map(found), strict.map(found));
    });
});

fn found(fields: Fields<'_>) -> ([Option<String>; 3], bool) {
    let Fields { key, names_key, user, project } = fields;
    ([key, user, project].map(|text| text.map(String::from)), names_key)
}
