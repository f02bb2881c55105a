//! Bodies through the layer, compared with `serde_json::Value` and a simple reader.
//!
//! ```text
//! cargo +nightly fuzz run json_body
//! ```
//!
//! The last bytes of an input say where the body is cut into frames.

#![no_main]
#![allow(dead_code, reason = "the other target uses the rest of the oracle")]

#[path = "../../conformance/tests/across/threats/oracle.rs"]
mod oracle;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

thread_local! {
    static RIG: oracle::Rig = oracle::Rig::default();
}

const CUTS: usize = 8;

fuzz_target!(|input: &[u8]| {
    let (text, cuts) = input.split_at(input.len().saturating_sub(CUTS));
    RIG.with(|rig| rig.json_body(text, cuts));
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // Sometimes uses a seed, so that no corpus is needed.
    if seed % 256 == 0 {
        let body = oracle::BODIES[seed as usize / 256 % oracle::BODIES.len()];
        let whole = body.len() + CUTS;
        if whole <= max_size {
            data[..body.len()].copy_from_slice(body);
            data[body.len()..whole].fill(7);
            return whole;
        }
    }
    fuzzer_mutate(data, size, max_size)
});
