//! Tests of several packages together: the layer with its stores, routes and pages.

mod attack;
mod authority;
mod imports;
mod limits;
mod openapi;
mod oracle;
mod parsers;
mod report;
mod threats;
