//! For tests: of your store, of your handlers, and of what depends on the time.

mod clock;
pub mod contract;
mod principal;

pub use self::clock::ManualClock;
pub use self::principal::{PrincipalBuilder, principal};
