//! HTTP routes to manage the keys of tower-api-key.
