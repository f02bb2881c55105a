//! A cache in front of a store that several processes share, whose answers are as current as the store's.

mod clock_map;
mod faults;
mod follower;
mod lease;
mod memory;
mod node;
mod options;
mod single_flight;
#[cfg(test)]
mod tests;
mod versioned;

pub use self::node::Cached;
pub use self::options::CacheOptions;
