//! Runs programs as child processes. The tests of this package are those that need several packages.

#![allow(missing_docs, missing_debug_implementations, reason = "its users are the tests beside it")]

pub mod server_kit;
