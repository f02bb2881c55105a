//! API keys of tower-api-key in an SQLite file, for any number of processes.
