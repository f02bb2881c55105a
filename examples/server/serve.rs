//! What `axum::serve` lacks: the peer's address, a deadline for request heads, and a deadline for shutdown.

use std::io;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::ServiceExt as _;
use tower_api_key::client_addr::PeerAddr;

use crate::Failure;

/// A connection is closed if a request's head does not arrive within this time, or if it is idle for this time (C3-23).
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// How long running requests may take after the server was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// Serves until SIGTERM or ctrl-c, then finishes running requests.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Router,
    stop: impl Future<Output = io::Result<()>>,
) -> Result<(), Failure> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    pause(&error).await;
                    continue;
                }
            },
            told = &mut stop => {
                told?;
                break;
            }
        };
        // For keys with IP restrictions. Behind a proxy, list it with `ApiKeyAuth::client_addr`.
        let app = app.clone().map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr::from(peer));
            request
        });
        let service = TowerToHyperService::new(app);
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that disconnects is not an error of the server.
            let _ = connection.await;
        });
    }
    drop(listener);
    if tokio::time::timeout(LAST_REQUESTS, graceful.shutdown()).await.is_err() {
        eprintln!("some connections did not end, and were cut off");
    }
    Ok(())
}

/// Waits after an error such as too many open files, which is no reason to end the server or to retry at once.
async fn pause(error: &io::Error) {
    eprintln!("accept: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Completes when the process is told to stop. From this call on, signals no longer kill the process.
#[cfg(unix)]
pub(crate) fn told_to_stop() -> io::Result<impl Future<Output = io::Result<()>>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

#[cfg(not(unix))]
pub(crate) fn told_to_stop() -> io::Result<impl Future<Output = io::Result<()>>> {
    Ok(tokio::signal::ctrl_c())
}
