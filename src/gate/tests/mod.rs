//! Tests of the gate that need private items: every combination of facts, and details that a store cannot observe.

mod every_case;
mod lookups;
mod passes;
mod throttled;
mod world;
