//! Tests of the gate that need its inside: every combination of facts, and what no store outside can see.

mod every_case;
mod lookups;
mod passes;
mod throttled;
mod world;
