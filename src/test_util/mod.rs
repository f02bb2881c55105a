//! Utilities for tests: of your store, of your handlers, and of code that depends on the time.

mod clock;
pub mod contract;
mod principal;

pub use self::clock::ManualClock;
pub use self::principal::{PrincipalBuilder, principal};
