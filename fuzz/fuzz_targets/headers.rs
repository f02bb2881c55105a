//! Header lines through the layer, compared with a simple reading of the rules.
//!
//! ```text
//! cargo +nightly fuzz run headers
//! ```

#![no_main]
#![allow(dead_code, reason = "the other target uses the rest of the oracle")]

#[path = "../../conformance/tests/across/threats/oracle.rs"]
mod oracle;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

thread_local! {
    static RIG: oracle::Rig = oracle::Rig::default();
}

fuzz_target!(|input: &[u8]| {
    RIG.with(|rig| rig.headers(input));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Sometimes uses a seed, so that no corpus is needed.
    if seed % 256 == 0 {
        let lines = oracle::LINES[seed as usize / 256 % oracle::LINES.len()];
        if lines.len() <= max_size {
            data[..lines.len()].copy_from_slice(lines);
            return lines.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
});
