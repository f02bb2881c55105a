//! What the tests of all packages share: a world with people and keys, stores that count calls or interfere, and
//! requests. It needs no database.

#![allow(missing_docs, missing_debug_implementations, reason = "its users are tests")]

mod counted;
pub mod earlier;
mod exchange;
mod hooked;
pub mod meddling;
mod world;

pub use self::counted::Counted;
pub use self::exchange::*;
pub use self::hooked::{Call, Hook, Hooked};
pub use self::world::*;
