//! What one customer's load costs their neighbours: revocations of others, while 300 connections of one customer rename
//! keys, list them, or list keys that are as large as keys can be.
//!
//! ```sh
//! cargo bench -p benches --bench neighbours                      # an SQLite file
//! cargo bench -p benches --bench neighbours -- --postgres        # TOWER_API_KEY_POSTGRES, or the server at 127.0.0.1:5432
//! cargo bench -p benches --bench neighbours -- --cached          # the same behind `Cached`, with a lease of a second
//! ```
//!
//! Server and clients are one process, on as many cores as there are. Each line tells how many of a thousand revocations
//! were refused, how long they took, and how much of the load was done meanwhile. `--only NAME` runs one load.

use std::error::Error;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tower_api_key::client_addr::ClientAddr;
use tower_api_key::restriction::{EndpointRestriction, Restrictions};
use tower_api_key::scheme::Bearer;
use tower_api_key::store::{Accounts, CacheOptions, Directory, KeyRegistry, KeyStore, Member, MemberRole};
use tower_api_key::{ApiKey, ApiKeyAuth, Endpoints, KeyPolicy, Keyring, NewKey, UserId, Verifier};
use tower_api_key_manage as manage;
use tower_api_key_postgres::PostgresStore;
use tower_api_key_sqlite::SqliteStore;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const CONNECTIONS: usize = 300;
const HEAVY_LISTS: usize = 20;
const REVOCATIONS: usize = 1000;
/// How many of the neighbour's keys are revoked by their own secrets instead.
const BY_SECRET: usize = 4;
const AT: &str = "/v1/api-keys";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let only = args.iter().position(|arg| arg == "--only").and_then(|at| args.get(at + 1)).cloned();
    tokio::runtime::Runtime::new()?.block_on(async move {
        if has("--cached") || has("--postgres") {
            let url = std::env::var("TOWER_API_KEY_POSTGRES")
                .unwrap_or_else(|_| "postgres://postgres@127.0.0.1:5432/postgres".to_owned());
            let store = PostgresStore::connect(&url).await?;
            if has("--cached") {
                let cached = CacheOptions::new().lease(Duration::from_secs(1))?.start(store.clone());
                return all("PostgreSQL, cached", cached, store, only).await;
            }
            return all("PostgreSQL", store.clone(), store, only).await;
        }
        let folder = tempfile::tempdir()?;
        let store = SqliteStore::open(folder.path().join("keys.db")).await?;
        all("SQLite", store.clone(), store, only).await
    })
}

async fn all<S, A>(name: &str, store: S, accounts: A, only: Option<String>) -> Result<()>
where
    S: KeyStore + KeyRegistry + Directory + Clone,
    A: Accounts,
{
    println!("{name}: {REVOCATIONS} revocations of a neighbour beside the load of one customer");
    let run = format!("{:x}", std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos());
    let (busy, neighbour) = (format!("busy.{run}"), format!("neighbour.{run}"));
    let account = format!("bench.{run}");
    accounts.create_account(&account, &UserId::new(format!("owner.{run}"))?).await?;
    for user in [&busy, &neighbour] {
        accounts.set_member(&account, &UserId::new(user)?, &Member::new(MemberRole::Full, [])).await?;
    }
    let site = Arc::new(Site::start(store, &busy, &neighbour).await?);
    for (load, connections) in
        [("nothing", 0), ("rename", CONNECTIONS), ("list", CONNECTIONS), ("heavy list", HEAVY_LISTS)]
    {
        if only.as_ref().is_none_or(|only| only == load || load == "nothing") {
            measure(&site, load, connections).await?;
        }
    }
    Ok(())
}

struct Site {
    address: std::net::SocketAddr,
    keyring: Keyring,
    busy: ApiKey,
    busy_id: String,
    heavy: ApiKey,
    neighbour: UserId,
}

impl Site {
    async fn start<S>(store: S, busy: &str, neighbour: &str) -> Result<Self>
    where
        S: KeyStore + KeyRegistry + Directory + Clone,
    {
        let verifier = Verifier::new(store.clone());
        let keyring = Keyring::new(store).policy(KeyPolicy::Multiple { max: NonZero::new(100_000).unwrap() });
        let endpoints = manage::declare(Endpoints::new(), AT).public(Method::POST, "/self-revoke");
        let auth = ApiKeyAuth::with_verifier(verifier.clone(), Bearer::default()).endpoints(endpoints)?;
        let app: Router = Router::new()
            .nest(AT, manage::api_keys(keyring.clone()))
            .route("/self-revoke", manage::self_revoke(keyring.clone(), verifier, ClientAddr::peer()))
            .layer(auth);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let service = app.into_make_service_with_connect_info::<std::net::SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });

        let (busy, neighbour) = (UserId::new(busy)?, UserId::new(neighbour)?);
        let issued = keyring.issue(NewKey::user_level(busy.clone(), "busy")).await?;
        let busy_id = issued.id().to_string();
        let rules =
            (0..80).map(|number| format!("GET /a/rather/long/route/of/this/customer/number/{number}/{{id}}"));
        let endpoints = Restrictions::none().endpoints(EndpointRestriction::allow(rules)?.observe());
        for number in 0..100 {
            let new =
                NewKey::user_level(busy.clone(), format!("heavy {number}")).restrictions(endpoints.clone());
            drop(keyring.issue(new).await?);
        }
        let heavy = keyring.issue(NewKey::user_level(busy, "lists")).await?;
        let (heavy, busy) = (heavy.into_parts().0, issued.into_parts().0);
        Ok(Self { address, keyring, busy, busy_id, heavy, neighbour })
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

async fn send(
    sender: &mut SendRequest<Body>,
    method: Method,
    path: &str,
    key: &ApiKey,
    body: &str,
) -> Result<StatusCode> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {}", key.expose_secret()))
        .body(Body::from(body.to_owned()))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

async fn measure(site: &Arc<Site>, load: &'static str, connections: usize) -> Result<()> {
    // Created while there is no other load.
    let caller =
        site.keyring.issue(NewKey::user_level(site.neighbour.clone(), "caller")).await?.into_parts().0;
    let mut victims = Vec::with_capacity(REVOCATIONS);
    for _ in 0..REVOCATIONS {
        let issued = site.keyring.issue(NewKey::user_level(site.neighbour.clone(), "victim")).await?;
        victims.push((issued.id().to_string(), issued.into_parts().0));
    }
    let (stop, done, refused) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for number in 0..connections {
        let mut sender = site.connect().await?;
        let (site, stop) = (Arc::clone(site), Arc::clone(&stop));
        let (done, refused) = (Arc::clone(&done), Arc::clone(&refused));
        tasks.push(tokio::spawn(async move {
            let path = format!("{AT}/{}", site.busy_id);
            for round in 0_u64.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let answer = match load {
                    "rename" => {
                        let body = format!("{{\"name\":\"{number} {round}\"}}");
                        send(&mut sender, Method::PATCH, &path, &site.busy, &body).await
                    }
                    _ => send(&mut sender, Method::GET, AT, &site.heavy, "").await,
                };
                match answer {
                    Ok(StatusCode::OK) => done.fetch_add(1, Ordering::Relaxed),
                    Ok(_) => refused.fetch_add(1, Ordering::Relaxed),
                    Err(_) => match site.connect().await {
                        Ok(again) => {
                            sender = again;
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(_) => return,
                    },
                };
            }
        }));
    }
    if connections > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let mut sender = site.connect().await?;
    let (mut times, mut failed) = (Vec::with_capacity(REVOCATIONS), 0);
    let began = Instant::now();
    for (number, (id, key)) in victims.iter().enumerate() {
        let asked = Instant::now();
        let answer = if number % BY_SECRET == 0 {
            send(&mut sender, Method::POST, "/self-revoke", key, "").await
        } else {
            send(&mut sender, Method::DELETE, &format!("{AT}/{id}"), &caller, "").await
        };
        times.push(asked.elapsed());
        match answer {
            Ok(StatusCode::OK) => {}
            Ok(status) => {
                failed += 1;
                eprintln!("{number}: {status}");
            }
            Err(error) => {
                failed += 1;
                eprintln!("{number}: {error}");
                sender = site.connect().await?;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        drop(task.await);
    }
    times.sort_unstable();
    let at =
        |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default().as_secs_f64() * 1e3;
    println!(
        "{load:>10}, {connections:>3} connections: refused {failed:>4}, p50 {:>6.1} ms, p99 {:>6.1} ms, longest {:>6.1} ms; load {:>7.0}/s done, {:>7.0}/s refused",
        at(500),
        at(990),
        at(999),
        done.load(Ordering::Relaxed) as f64 / seconds,
        refused.load(Ordering::Relaxed) as f64 / seconds,
    );
    Ok(())
}
