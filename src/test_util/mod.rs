//! For tests: of your store, and of what depends on the time.

mod clock;
pub mod contract;

pub use self::clock::ManualClock;
