//! API keys of tower-api-key in PostgreSQL, for any number of machines.
