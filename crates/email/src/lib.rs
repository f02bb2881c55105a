//! E-mails to the owners of keys of tower-api-key.
