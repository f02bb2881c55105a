//! Tests of the gate that need private items: every combination of facts, and details that a store cannot observe.

mod every_case;
mod explained;
mod lookups;
mod passes;
mod permits;
mod principal;
mod refusals;
#[cfg(feature = "slow-hashes")]
mod slow;
mod throttled;
mod world;
