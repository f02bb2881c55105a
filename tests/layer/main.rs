//! The layer from outside: requests, keys and decisions, with stores in memory.

mod cached;
mod contract;
mod decision;
mod deprecation;
mod explain;
mod guard;
mod keyring;
mod lease_model;
mod observability;
mod restrictions;
