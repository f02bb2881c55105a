//! Web pages on which people manage their own keys of tower-api-key.
