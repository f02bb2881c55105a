//! The programs that show the layer at work, run as children and driven over HTTP: the example server and the small
//! examples.

mod areas;
mod cluster;
mod crash;
mod examples;
mod ready;
mod sign_in;
