//! OpenAPI documents for tower-api-key.
