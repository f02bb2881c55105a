//! Answers from memory in front of a store that several processes share, as true as the store's own.

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
