//! The kit of the tests: a world with people and keys, and programs that run as children. The tests of this package are
//! those that need several packages at once.

#![allow(missing_docs, missing_debug_implementations, reason = "its users are the tests beside it")]

pub mod live;

#[path = "../../tests/common/mod.rs"]
mod world;

pub use self::world::*;
