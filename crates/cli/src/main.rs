//! The command line of tower-api-key: keys, people and projects of a store.

fn main() {}
