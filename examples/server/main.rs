//! A complete server: three schemes, each for an area of its own, with keys in an SQLite file.
//!
//! ```text
//! cargo run --example server
//! ```
//!
//! The first start fills the file with two demo accounts, prints their passwords for the portal, their keys, and
//! requests to try, each below the status that it gets. A key is shown once: later starts find the same keys in the
//! file but cannot show them.
//!
//! Optional parts are compiled in by features: `cargo run --example server --features postgres,smtp,leaks`.
//!
//! | variable | default | purpose |
//! |---|---|---|
//! | `ADDR` | `127.0.0.1:3000` | where to listen; with port 0 on a free port, which is printed |
//! | `DB` | `tower-api-key-demo.db` | the file; to start afresh, delete it, its `-wal` and its `-shm` |
//! | `FAILURES` | `100/s` | how often one client may send the same wrong key; use less, such as `10/min`, in production |
//! | `LOOKUPS` | `50/5s` | how many different wrong keys one client may send |
//! | `PROXIES` | | networks of trusted proxies, such as `10.0.0.0/8,192.168.0.1`, whose `X-Forwarded-For` is read |
//! | `LOG` | | `debug` logs every decision about a request to stderr, `info` changes of keys and warnings |
//! | `TOWER_API_KEY_PEPPERS`, or `.._FILE` with a file of them | | `2027:secret,2026:secret,sha256`: peppers of at least 32 bytes, newest first |
//! | `DATABASE_URL` | | with the feature `postgres`, `postgres://...`: keys, people and projects in PostgreSQL, and answers from memory; `DB` has the charges. With `?sslmode=verify-full&sslrootcert=ca.pem` by TLS |
//! | `SMTP_URL` | | with the feature `smtp`, `smtp://127.0.0.1:1025`, `smtps://user:password@host`: owners get a mail about new keys, without the key |
//! | `SMTP_FROM`, `SMTP_TO` | `Example API <keys@example.com>`, `example.com` | from which mailbox; the domain of everybody's own, such as `alice@example.com` |
//! | `LEAK_KEYS` | | with the feature `leaks`, a file with a secret scanner's public keys, as GitHub publishes them: turns `/leaks` on |
//! | `FIXTURE` | | where to write the demo's keys, people and projects as JSON, for scripts; only if the file is new |
//!
//! | route | needs |
//! |---|---|
//! | `POST /pixelStripeApi/projects/upload-file` | key, user and project in the JSON body |
//! | `POST /pixelStripeApi/projects/status`, which only reads | the same |
//! | `GET /api/v1/validate`, `GET /api/v1/projects` | `X-API-Key`; `X-Project-ID` is optional |
//! | `GET /api/v1/projects/{id}`, `GET /api/v1/sites` | `X-API-Key` and `X-Project-ID` |
//! | `GET /v1/users/{id}`, `POST /v1/charges`, `GET /v1/charges` | `Authorization: Bearer` |
//! | `GET /v1/prices` | nothing, or `Authorization: Bearer`: a key that is sent must be valid |
//! | `GET /v1/api-keys`, `POST`, `GET /{id}`, `PATCH /{id}`, `DELETE /{id}`, `POST /{id}/rotate`, `POST /{id}/explain` | the same |
//! | `POST /v1/api-keys/self-revoke` | the key to revoke |
//! | `POST /leaks`, with `LEAK_KEYS` | a scanner's signature |
//! | any method, `/migrate/echo`, up to 8 MiB | any of the three |
//! | `/portal`: the key portal | a sign-in at `/account/sign-in` |
//! | `GET /`, for browsers | nothing: links to the other pages |
//! | `GET /health` | nothing: whether the server runs |
//! | `GET /ready` | nothing: whether the store answers and, with PostgreSQL, whether this node may answer from memory |
//! | `GET /openapi.json` | nothing: the OpenAPI document of these routes |
//!
//! Within an area every request except to `/v1/prices` needs a key, even for routes that do not exist: without a
//! key the answer is 401, with a key 404. So nobody learns without a key which routes there are. Outside of the
//! areas the answer is 404: a page for browsers, and JSON for other clients.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    match example_server::run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", example_server::with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}
