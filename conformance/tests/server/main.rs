//! The example server and the small examples, run as child processes and used over HTTP.

mod areas;
mod cluster;
mod crash;
mod examples;
mod ready;
mod sign_in;
